locals {
  storage_roles = { read = "roles/storage.objectViewer", write = "roles/storage.objectUser" }
  bundle_path   = "${path.module}/${var.bundle}"
  signed_images = lower(trimspace(lookup(var.settings, "IMAGE_URLS", ""))) == "signed"
  cors_origins  = [for origin in split(",", lookup(var.settings, "CORS_ORIGIN", "*")) : trimspace(origin)]
}

# What functions store: generated images and uploaded files.
resource "google_storage_bucket" "images" {
  name                        = "${var.project_id}-${var.name_prefix}-images"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  soft_delete_policy {
    retention_duration_seconds = 7 * 24 * 3600
  }
  # As long as the functions show them (IMAGE_TTL_DAYS).
  dynamic "lifecycle_rule" {
    for_each = var.image_ttl_days == null ? [] : [var.image_ttl_days]
    content {
      action {
        type = "Delete"
      }
      condition {
        age = lifecycle_rule.value
      }
    }
  }
  # No file of a caller lives longer than 30 days. The functions delete the bytes too, but only while files are uploaded.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 31
      matches_prefix = ["files/"]
    }
  }
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }
  cors {
    origin          = local.cors_origins
    method          = ["GET", "HEAD", "POST", "PUT"]
    response_header = ["Content-Type", "Content-Length", "Content-Range", "ETag", "Location", "Range"]
    max_age_seconds = 3600
  }

  depends_on = [google_project_service.api["storage.googleapis.com"]]
}

resource "google_storage_bucket_iam_member" "images" {
  for_each = { for name, function in local.functions : name => function.storage if function.storage != "none" }

  bucket = google_storage_bucket.images.name
  role   = lookup(local.storage_roles, each.value, local.storage_roles.read)
  member = google_service_account.function[each.key].member
}

# The source of the functions. It can be built again from the repository, so it does not block a destroy.
resource "google_storage_bucket" "source" {
  name                        = "${var.project_id}-${var.name_prefix}-source"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true
  versioning {
    enabled = true
  }
  # Long enough to go back to. One that is still deployed is uploaded again by the next apply; functions have copies of their own.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 180
      matches_prefix = ["bundle/"]
    }
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
      with_state                 = "ARCHIVED"
    }
  }

  depends_on = [google_project_service.api["storage.googleapis.com"]]
}

# Named by its content: unchanged sources change nothing. The previous archive is kept for rolling back.
resource "google_storage_bucket_object" "bundle" {
  name            = "bundle/${filemd5(local.bundle_path)}.zip"
  bucket          = google_storage_bucket.source.name
  source          = local.bundle_path
  content_type    = "application/zip"
  deletion_policy = "ABANDON"
}
