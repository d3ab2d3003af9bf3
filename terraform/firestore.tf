locals {
  # Every collection that the code uses; a test compares them. A value is one bytes field, beside the time of its expiry.
  collections   = toset(["batches", "bindings", "configuration", "files", "ledger", "marks", "rate", "resumable_uploads", "session_answers", "session_pages", "sessions", "turns"])
  value_field   = "s"
  expiry_field  = "expires_at"
  database_name = "${var.name_prefix}-gateway"
}

resource "google_firestore_database" "gateway" {
  name        = local.database_name
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"
  # The default, written out: an edition cannot be changed, and the other one bills differently.
  database_edition = "STANDARD"
  # A ledger step holds no lock: otherwise a suspended instance would block all others.
  concurrency_mode                  = "OPTIMISTIC"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "PREVENT" : "DELETE"

  lifecycle {
    precondition {
      condition     = local.writer_instances <= local.bounds.max_writers
      error_message = "The writing functions may have ${local.writer_instances} instances together, over ${local.bounds.max_writers}: the ledger's document does not take as many writers, and fewer requests would be served. Lower max_instances in `functions`, and raise concurrency instead."
    }
  }

  depends_on = [google_project_service.api["firestore.googleapis.com"]]
}

# There are no queries by value: without an index, a write touches only the document.
resource "google_firestore_field" "value" {
  for_each = local.collections

  database   = google_firestore_database.gateway.name
  collection = each.key
  field      = local.value_field
  index_config {}
}

# An index on a growing timestamp would have a hotspot at its end.
resource "google_firestore_field" "expiry" {
  for_each = local.collections

  database   = google_firestore_database.gateway.name
  collection = each.key
  field      = local.expiry_field
  index_config {}
  ttl_config {}
}
