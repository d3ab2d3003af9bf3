locals {
  # A service account's id has 6 to 30 characters.
  account_ids = {
    for name, function in local.functions : name => length(function.resource_name) <= 30 ? function.resource_name : "${trimsuffix(substr(function.resource_name, 0, 21), "-")}-${substr(md5(name), 0, 8)}"
  }
  store_roles      = { read = "roles/datastore.viewer", write = "roles/datastore.user" }
  gateway_database = "projects/${var.project_id}/databases/${google_firestore_database.gateway.name}"
}

# One account per function, which is one endpoint or one family of them.
resource "google_service_account" "function" {
  for_each = local.functions

  account_id   = local.account_ids[each.key]
  display_name = "${var.name_prefix}: ${each.key}"

  depends_on = [google_project_service.api["iam.googleapis.com"]]
}

# What endpoint.json says of the store, and in this gateway's database only.
resource "google_project_iam_member" "ledger" {
  for_each = { for name, function in local.functions : name => function.store if function.store != "none" }

  project = var.project_id
  role    = lookup(local.store_roles, each.value, local.store_roles.read)
  member  = google_service_account.function[each.key].member
  condition {
    title      = "${var.name_prefix} database"
    expression = "resource.name == \"${local.gateway_database}\""
  }
}

# A signed URL of an image is signed by the function that returns it.
resource "google_service_account_iam_member" "signs_as_itself" {
  for_each = toset(local.signed_images && local.image_function != null ? [local.image_function] : [])

  service_account_id = google_service_account.function[each.key].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = google_service_account.function[each.key].member
}

# A new account or right is known everywhere only after a while. Functions wait for that, so that a first deployment, and a
# first deployment of a function, does not fail half way: a function that failed would be deleted and built again.
resource "terraform_data" "rights_spread" {
  triggers_replace = sort([for grant in concat(
    values(google_secret_manager_secret_iam_member.accessor),
    values(google_project_iam_member.ledger),
    values(google_project_iam_member.build),
    [google_storage_bucket_iam_member.build_reads_source],
    [google_artifact_registry_repository_iam_member.build_writes_images],
    values(google_artifact_registry_repository_iam_member.agent_reads_images),
    values(google_storage_bucket_iam_member.images),
    values(google_service_account_iam_member.signs_as_itself),
    values(google_service_account_iam_member.deploy_acts_as),
    values(google_project_iam_member.deploy),
  ) : grant.id])

  provisioner "local-exec" {
    command = "sleep ${var.rights_wait_s}"
  }
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = merge([
    for name, function in local.functions : { for member in distinct(contains(function.invokers, "allUsers") ? function.invokers : concat(function.invokers, local.deployer)) : "${name}/${member}" => { function = name, member = member } }
  ]...)

  # From the id, which is unknown while the function is created again: it has lost its policy, so that this is created again too.
  # (replace_triggered_by would need one resource for all of a function's members: it can use only each.key.)
  name       = basename(google_cloudfunctions2_function.function[each.value.function].id)
  location   = var.region
  role       = "roles/run.invoker"
  member     = each.value.member
  depends_on = [google_service_account.deploy]
}
