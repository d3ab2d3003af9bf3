# Once per project, with a state of its own on this machine: the bucket of every other state, and what Terraform itself needs.
terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }
}

variable "project_id" {
  description = "Google Cloud project of the gateway."
  type        = string
}

variable "region" {
  description = "Where the bucket lies."
  type        = string
  default     = "us-central1"
}

provider "google" {
  project = var.project_id
  region  = var.region
}

resource "google_project_service" "api" {
  for_each = toset(["cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com", "storage.googleapis.com"])

  service            = each.key
  disable_on_destroy = false
}

resource "google_storage_bucket" "state" {
  name                        = "${var.project_id}-terraform-state"
  location                    = var.region
  labels                      = { application = "terraform-state" }
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  versioning {
    enabled = true
  }
  # Plans of the pipeline (cloudbuild.yaml). Nobody approves one that is older.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 90
      matches_prefix = ["plans/"]
    }
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
      matches_prefix             = ["plans/"]
      with_state                 = "ARCHIVED"
    }
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      num_newer_versions = 20
      with_state         = "ARCHIVED"
    }
  }

  depends_on = [google_project_service.api]
}

output "init" {
  description = "What to run next, in terraform/."
  value       = "terraform init -backend-config=bucket=${google_storage_bucket.state.name}"
}
