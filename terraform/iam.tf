locals {
  # A service account's id has 6 to 30 characters.
  account_ids = {
    for name, function in local.functions : name => length(function.resource_name) <= 30 ? function.resource_name : "${trimsuffix(substr(function.resource_name, 0, 21), "-")}-${substr(md5(name), 0, 8)}"
  }
  gateway_database = "projects/${var.project_id}/databases/${google_firestore_database.gateway.name}"
}

# One account per function, which is one endpoint or one family of them.
resource "google_service_account" "function" {
  for_each = local.functions

  account_id   = local.account_ids[each.key]
  display_name = "${var.name_prefix}: ${each.key}"

  depends_on = [google_project_service.api["iam.googleapis.com"]]
}

# Only this gateway's database. A public function never generates, so it has nothing to write there.
resource "google_project_iam_member" "ledger" {
  for_each = local.functions

  project = var.project_id
  role    = each.value.public ? "roles/datastore.viewer" : "roles/datastore.user"
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

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = merge([
    for name, function in local.functions : { for member in distinct(contains(function.invokers, "allUsers") ? function.invokers : concat(function.invokers, local.deployer)) : "${name}/${member}" => { function = name, member = member } }
  ]...)

  name     = google_cloudfunctions2_function.function[each.value.function].name
  location = var.region
  role     = "roles/run.invoker"
  member   = each.value.member

  depends_on = [google_service_account.deploy]
}
