# The secrets alone: their values are added outside of Terraform (README.md), so that no plan and no state has one.
resource "google_secret_manager_secret" "secret" {
  for_each = toset(flatten([for function in values(local.functions) : tolist(function.secrets)]))

  secret_id = "${var.name_prefix}-${lower(replace(each.key, "_", "-"))}"
  labels    = local.labels
  replication {
    auto {}
  }

  # A secret that is no longer named is deleted after the functions are updated. Before that, no new instance could start.
  lifecycle {
    create_before_destroy = true
  }
  depends_on = [google_project_service.api["secretmanager.googleapis.com"]]
}

resource "google_secret_manager_secret_iam_member" "accessor" {
  for_each = merge([
    for name, function in local.functions : { for secret in function.secrets : "${name}/${secret}" => { function = name, secret = secret } }
  ]...)

  secret_id = google_secret_manager_secret.secret[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.value.function].member

  lifecycle {
    create_before_destroy = true
  }
}
