terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }

  # Its bucket is made by bootstrap/ and given to `terraform init -backend-config="bucket=..."`.
  backend "gcs" {
    prefix = "gateway"
  }
}

provider "google" {
  project = var.project_id
  region  = var.region
}

data "google_project" "this" {
  project_id = var.project_id
}
