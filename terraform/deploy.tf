# Deploying from a repository: cloudbuild.yaml plans every push, and applies that very plan once a person approved.
# Until then a push is untrusted: its checks run any code of the commit, as an account that can only read and keep a plan.
locals {
  deploys = var.cloud_build == null ? {} : { deploy = var.cloud_build }
  plans   = var.cloud_build == null ? {} : { plan = var.cloud_build }
  # It asks the functions that it deployed.
  deployer = var.cloud_build == null ? [] : ["serviceAccount:${var.name_prefix}-deploy@${var.project_id}.iam.gserviceaccount.com"]
  # What the deployer may do in the project: role -> the condition that confines it to this gateway, where IAM has one that works.
  # Creating something is checked on the project. Service accounts cannot be confined by name (IAM sees their number), so that
  # roles/iam.serviceAccountAdmin reaches every account of the project: give the gateway a project of its own. It may pass on
  # only the roles in `granted`.
  created = "resource.type == \"cloudresourcemanager.googleapis.com/Project\""
  deployer_roles = merge(
    {
      "roles/artifactregistry.admin"         = null
      "roles/cloudbuild.builds.editor"       = null
      "roles/cloudfunctions.admin"           = null
      "roles/datastore.owner"                = null
      "roles/iam.serviceAccountAdmin"        = null
      "roles/logging.configWriter"           = null
      "roles/logging.logWriter"              = null
      "roles/monitoring.editor"              = null
      "roles/run.admin"                      = null
      "roles/secretmanager.admin"            = "${local.created} || resource.name.startsWith(\"projects/${data.google_project.this.number}/secrets/${var.name_prefix}-\")"
      "roles/serviceusage.serviceUsageAdmin" = null
      "roles/storage.admin"                  = join(" || ", [local.created, "resource.name.startsWith(\"projects/_/buckets/${var.project_id}-${var.name_prefix}-\")", "resource.name == \"projects/_/buckets/${local.state_bucket}\"", "resource.name.startsWith(\"projects/_/buckets/${local.state_bucket}/\")"])
    },
    var.domain == null ? {} : { "roles/compute.loadBalancerAdmin" = null, "roles/compute.securityAdmin" = null },
  )
  state_bucket = try(var.cloud_build.state_bucket, "")
  granted      = ["roles/datastore.user", "roles/datastore.viewer", "roles/logging.logWriter", "roles/storage.objectViewer"]
}

resource "google_service_account" "deploy" {
  for_each = local.deploys

  account_id   = "${var.name_prefix}-deploy"
  display_name = "${var.name_prefix}: applies Terraform's approved plans"

  depends_on = [google_project_service.api["iam.googleapis.com"]]
}

resource "google_project_iam_member" "deploy" {
  for_each = { for role, condition in local.deployer_roles : role => condition if var.cloud_build != null }

  project = var.project_id
  role    = each.key
  member  = google_service_account.deploy["deploy"].member
  dynamic "condition" {
    for_each = each.value == null ? [] : [each.value]
    content {
      title      = "only this gateway's"
      expression = condition.value
    }
  }
}

resource "google_project_iam_member" "deploy_grants" {
  for_each = local.deploys

  project = var.project_id
  role    = "roles/resourcemanager.projectIamAdmin"
  member  = google_service_account.deploy[each.key].member
  condition {
    title      = "only the roles of the functions"
    expression = "api.getAttribute(\"iam.googleapis.com/modifiedGrantsByRole\", []).hasOnly(${jsonencode(local.granted)})"
  }
}

# It reads what Terraform compares (resources and their policies, no value of a secret), and writes the log of its build.
resource "google_service_account" "plan" {
  for_each = local.plans

  account_id   = "${var.name_prefix}-plan"
  display_name = "${var.name_prefix}: checks and plans each push"

  depends_on = [google_project_service.api["iam.googleapis.com"]]
}

resource "google_project_iam_member" "plan" {
  for_each = var.cloud_build == null ? [] : toset(["roles/viewer", "roles/iam.securityReviewer", "roles/logging.logWriter"])

  project = var.project_id
  role    = each.key
  member  = google_service_account.plan["plan"].member
}

# The state, the values, and the bundle that is deployed. roles/viewer does not read objects.
resource "google_storage_bucket_iam_member" "plan_reads" {
  for_each = var.cloud_build == null ? {} : { state = var.cloud_build.state_bucket, source = google_storage_bucket.source.name }

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.plan["plan"].member
}

# It creates plans and cannot replace one: what a person approves is what was kept first.
resource "google_storage_bucket_iam_member" "plan_keeps" {
  for_each = local.plans

  bucket = each.value.state_bucket
  role   = "roles/storage.objectCreator"
  member = google_service_account.plan[each.key].member
  condition {
    title      = "only plans"
    expression = "resource.name.startsWith(\"projects/_/buckets/${each.value.state_bucket}/objects/plans/\")"
  }
}

# Whoever makes a function or a trigger must be allowed to act as its account.
resource "google_service_account_iam_member" "deploy_acts_as" {
  for_each = var.cloud_build == null ? {} : merge({ build = google_service_account.build.name, plan = google_service_account.plan["plan"].name, deploy = google_service_account.deploy["deploy"].name }, { for name, account in google_service_account.function : "function/${name}" => account.name })

  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.deploy["deploy"].member
}

# The smoke test calls private functions with an ID token, which the build's metadata server gives only to an account that may
# make one for itself.
resource "google_service_account_iam_member" "deploy_gets_id_tokens" {
  for_each = local.deploys

  service_account_id = google_service_account.deploy[each.key].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = google_service_account.deploy[each.key].member
}

resource "google_cloudbuild_trigger" "trigger" {
  for_each = var.cloud_build == null ? {} : {
    plan  = { approval = false, account = google_service_account.plan["plan"].id }
    apply = { approval = true, account = google_service_account.deploy["deploy"].id }
  }

  name = "${var.name_prefix}-${each.key}"
  # A trigger must be where its repository's connection is.
  location        = split("/", var.cloud_build.repository)[3]
  description     = each.value.approval ? "Applies the plan of this commit; waits for an approval." : "Checks, builds and plans this commit."
  filename        = "cloudbuild.yaml"
  service_account = each.value.account
  substitutions = {
    _STAGE        = each.key
    _STATE_BUCKET = var.cloud_build.state_bucket
    _ADMIN_SECRET = google_secret_manager_secret.secret["ADMIN_API_KEY"].secret_id
    # Asked for only where not everybody may call.
    _SMOKE_ARGUMENTS = alltrue([for function in values(local.functions) : contains(function.invokers, "allUsers")]) ? "" : "--private"
  }
  approval_config {
    approval_required = each.value.approval
  }
  repository_event_config {
    repository = var.cloud_build.repository
    push {
      branch = var.cloud_build.branch
    }
  }

  depends_on = [google_project_service.api["cloudbuild.googleapis.com"]]
}
