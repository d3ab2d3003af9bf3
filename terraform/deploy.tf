# Deploying from a repository: cloudbuild.yaml plans every push, and applies that very plan once a person approved.
locals {
  deploys = var.cloud_build == null ? {} : { deploy = var.cloud_build }
  # It asks the functions that it deployed.
  deployer = var.cloud_build == null ? [] : ["serviceAccount:${var.name_prefix}-deploy@${var.project_id}.iam.gserviceaccount.com"]
  # What the deployer may do to the whole project. It may pass on only the roles in `granted`.
  deployer_roles = toset(concat(
    [
      "roles/artifactregistry.admin",
      "roles/cloudbuild.builds.editor",
      "roles/cloudfunctions.admin",
      "roles/datastore.owner",
      "roles/iam.serviceAccountAdmin",
      "roles/logging.configWriter",
      "roles/logging.logWriter",
      "roles/monitoring.editor",
      "roles/run.admin",
      "roles/secretmanager.admin",
      "roles/serviceusage.serviceUsageAdmin",
      "roles/storage.admin",
    ],
    var.domain == null ? [] : ["roles/compute.loadBalancerAdmin", "roles/compute.securityAdmin"],
  ))
  granted = ["roles/datastore.user", "roles/datastore.viewer", "roles/logging.logWriter", "roles/storage.objectViewer"]
}

resource "google_service_account" "deploy" {
  for_each = local.deploys

  account_id   = "${var.name_prefix}-deploy"
  display_name = "${var.name_prefix}: plans and applies Terraform"

  depends_on = [google_project_service.api["iam.googleapis.com"]]
}

resource "google_project_iam_member" "deploy" {
  for_each = var.cloud_build == null ? [] : local.deployer_roles

  project = var.project_id
  role    = each.key
  member  = google_service_account.deploy["deploy"].member
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

resource "google_service_account_iam_member" "deploy_acts_as" {
  for_each = var.cloud_build == null ? {} : merge({ build = google_service_account.build.name }, { for name, account in google_service_account.function : "function/${name}" => account.name })

  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.deploy["deploy"].member
}

resource "google_cloudbuild_trigger" "trigger" {
  for_each = var.cloud_build == null ? {} : { plan = false, apply = true }

  name            = "${var.name_prefix}-${each.key}"
  location        = var.region
  description     = each.value ? "Applies the plan of this commit; waits for an approval." : "Checks, builds and plans this commit."
  filename        = "cloudbuild.yaml"
  service_account = google_service_account.deploy["deploy"].id
  substitutions = {
    _STAGE        = each.key
    _STATE_BUCKET = var.cloud_build.state_bucket
    _ADMIN_SECRET = google_secret_manager_secret.secret["ADMIN_API_KEY"].secret_id
    # Asked for only where not everybody may call.
    _SMOKE_ARGUMENTS = alltrue([for function in values(local.functions) : contains(function.invokers, "allUsers")]) ? "" : "--private"
  }
  approval_config {
    approval_required = each.value
  }
  repository_event_config {
    repository = var.cloud_build.repository
    push {
      branch = var.cloud_build.branch
    }
  }

  depends_on = [google_project_service.api["cloudbuild.googleapis.com"]]
}
