locals {
  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudfunctions.googleapis.com",
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com",
    ],
    var.billing_account == null ? [] : ["billingbudgets.googleapis.com"],
    var.domain == null ? [] : ["compute.googleapis.com"],
    local.signed_images || var.cloud_build != null ? ["iamcredentials.googleapis.com"] : [],
  ))
}

resource "google_project_service" "api" {
  for_each = local.apis

  service = each.key
  # Other things in the project may use it.
  disable_on_destroy = false
}

# Enabling an API also makes Google's service agents for it, a little later. A grant to an account that does not exist yet fails.
resource "terraform_data" "agents_exist" {
  triggers_replace = sort(local.apis)

  provisioner "local-exec" {
    command = "sleep ${var.rights_wait_s}"
  }

  depends_on = [google_project_service.api]
}
