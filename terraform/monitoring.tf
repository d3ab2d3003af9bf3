# All metrics come from the one record that a function logs per request; its labels are strings.
locals {
  services = [for function in values(local.functions) : function.resource_name]
  counted  = "resource.type = \"cloud_run_revision\" AND metric.type = \"logging.googleapis.com/user/${google_logging_metric.requests.name}\""
  alerts = {
    ledger_unavailable = {
      display_name = "ledger unavailable"
      severity     = "CRITICAL"
      filter       = "metric.labels.outcome = \"ledger_unavailable\""
      threshold    = 0
      duration     = "0s"
      content      = "Functions cannot reach Firestore, so they refuse every request with 503 and send nothing to Gemini. Look at Firestore's status, at the functions' role on the database, and at GET /health, whose `ledger` names the reason."
    }
    failures = {
      display_name = "over 5 % of the requests fail"
      severity     = "ERROR"
      filter       = "metric.labels.status = starts_with(\"5\")"
      threshold    = 0.05
      duration     = "300s"
      content      = "A twentieth of the requests of five minutes ended with a 5xx. The records with severity ERROR name the outcome: upstream_failed and upstream_timeout are Gemini's, internal_error is the gateway's and has a stack beside it."
    }
    outside_consumer = {
      display_name = "somebody else spends the quota"
      severity     = "WARNING"
      filter       = "metric.labels.outcome = \"rate_limited\""
      threshold    = 5
      duration     = "0s"
      content      = "Gemini refused what the ledger had permitted (429), so something else uses the same Google project, or its limits are lower than GEMINI_TIER or GEMINI_LIMITS say. Find the other consumer, or lower the limits by its share."
    }
  }
}

resource "google_logging_metric" "requests" {
  name        = "${var.name_prefix}/requests"
  description = "Requests by function, model, outcome and status."
  filter      = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = (${join(" OR ", formatlist("%q", local.services))}) AND labels.outcome : *"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
    dynamic "labels" {
      for_each = local.metric_labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }
  label_extractors = local.metric_labels

  depends_on = [google_project_service.api["logging.googleapis.com"]]
}

locals {
  metric_labels = {
    function = "EXTRACT(labels.function)"
    model    = "EXTRACT(labels.model)"
    outcome  = "EXTRACT(labels.outcome)"
    status   = "EXTRACT(httpRequest.status)"
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  display_name = "${var.name_prefix}: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }

  depends_on = [google_project_service.api["monitoring.googleapis.com"]]
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = local.alerts

  display_name          = "${var.name_prefix}: ${each.value.display_name}"
  combiner              = "OR"
  severity              = each.value.severity
  user_labels           = local.labels
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  conditions {
    display_name = each.value.display_name
    condition_threshold {
      filter          = "${local.counted} AND ${each.value.filter}"
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
      # A share has every request below the line; a count has nothing there.
      denominator_filter = each.value.threshold > 0 && each.value.threshold < 1 ? local.counted : null
      dynamic "denominator_aggregations" {
        for_each = each.value.threshold > 0 && each.value.threshold < 1 ? [true] : []
        content {
          alignment_period     = "300s"
          per_series_aligner   = "ALIGN_SUM"
          cross_series_reducer = "REDUCE_SUM"
        }
      }
    }
  }
  alert_strategy {
    auto_close = "1800s"
  }
  documentation {
    content   = each.value.content
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.api["monitoring.googleapis.com"]]
}
