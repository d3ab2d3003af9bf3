# How a function's container is made: who builds it, and where it is kept.
resource "google_service_account" "build" {
  account_id   = "${var.name_prefix}-build"
  display_name = "${var.name_prefix}: builds the functions"

  depends_on = [google_project_service.api["iam.googleapis.com"]]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "${var.name_prefix}-functions"
  location      = var.region
  format        = "DOCKER"
  description   = "Containers of the functions, built by Cloud Functions."
  labels        = local.labels

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.api["artifactregistry.googleapis.com"]]
}

resource "google_artifact_registry_repository_iam_member" "build_writes_images" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_storage_bucket_iam_member" "build_reads_source" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member
}

# Google's own accounts read the images too. A new project grants them that with a delay, in which a first build would fail.
resource "google_artifact_registry_repository_iam_member" "agent_reads_images" {
  for_each = toset(["gcf-admin-robot", "serverless-robot-prod"])

  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:service-${data.google_project.this.number}@${each.key}.iam.gserviceaccount.com"

  # They exist some time after their API is enabled.
  depends_on = [terraform_data.agents_exist]
}

# Cloud Functions copies the source into a bucket of its own, which does not exist before the first function.
resource "google_project_iam_member" "build" {
  for_each = {
    "roles/logging.logWriter"    = null
    "roles/storage.objectViewer" = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${data.google_project.this.number}-${var.region}\")"
  }

  project = var.project_id
  role    = each.key
  member  = google_service_account.build.member
  dynamic "condition" {
    for_each = each.value == null ? [] : [each.value]
    content {
      title      = "source of functions"
      expression = condition.value
    }
  }
}
