# The gateway's own alerts read the one record that a function logs per request, whose labels are strings. What the platform answers
# in a function's place (it does not start, is out of memory, instances or time) has no such record: Cloud Run counts it.
locals {
  services = [for function in values(local.functions) : function.resource_name]
  counted  = "resource.type = \"cloud_run_revision\" AND metric.type = \"logging.googleapis.com/user/${google_logging_metric.requests.name}\""
  waited   = "resource.type = \"cloud_run_revision\" AND metric.type = \"logging.googleapis.com/user/${google_logging_metric.queue.name}\""
  answered = "resource.type = \"cloud_run_revision\" AND metric.type = \"run.googleapis.com/request_count\" AND resource.labels.service_name = one_of(${join(", ", formatlist("%q", local.services))})"
  logged   = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = (${join(" OR ", formatlist("%q", local.services))})"
  probed   = try(local.owners["/health"], null)

  # `of`: the denominator of a share. `percentile`: of a distribution.
  alerts = {
    ledger_unavailable = {
      display_name = "ledger unavailable"
      severity     = "CRITICAL"
      filter       = "${local.counted} AND metric.labels.outcome = \"ledger_unavailable\""
      of           = null
      percentile   = false
      threshold    = 0
      duration     = "0s"
      what         = "Functions cannot reach Firestore, so that they reject every request with 503 and send nothing to Gemini."
      do           = "Read `ledger.reason` in GET /health. `permission denied`: apply Terraform again, it restores the functions' role on the database. Otherwise look at Firestore at https://status.cloud.google.com: the gateway recovers by itself."
    }
    failures = {
      display_name = "over 5 % of the requests fail"
      severity     = "ERROR"
      filter       = "${local.counted} AND metric.labels.status = starts_with(\"5\")"
      of           = local.counted
      percentile   = false
      threshold    = 0.05
      duration     = "300s"
      what         = "Over 5 % of the requests of five minutes ended with a 5xx of the gateway."
      do           = "In Logs Explorer, filter `severity=ERROR` and group by `labels.outcome`. upstream_failed and upstream_timeout are Gemini's: look at its status page, and wait. internal_error is the gateway's: the record beside it has the stack; go back to the revision before (README.md, \"Go back\")."
    }
    platform_failures = {
      display_name = "the platform fails for over 5 % of the requests"
      severity     = "CRITICAL"
      filter       = "${local.answered} AND metric.labels.response_code_class = \"5xx\""
      of           = local.answered
      percentile   = false
      threshold    = 0.05
      duration     = "300s"
      what         = "Over 5 % of the responses of five minutes were a 5xx, counting those that Cloud Run sent because a function did not start, was killed for its memory, had no instance free or ran out of time. Those have no record of the gateway's."
      do           = "If the alert \"over 5 % of the requests fail\" is open too, start there. Otherwise open the function in Cloud Run, tab Logs: a start that fails names the setting or the secret that is wrong; `Memory limit exceeded`: raise memory_mb in `functions`; `no available instance`: raise max_instances. After a release: go back (README.md, \"Go back\")."
    }
    outside_consumer = {
      display_name = "something else uses the quota"
      severity     = "WARNING"
      filter       = "${local.counted} AND metric.labels.outcome = \"rate_limited\""
      of           = null
      percentile   = false
      threshold    = 5
      duration     = "0s"
      what         = "Gemini rejected requests that the ledger had permitted (429): something else uses the same Google project, or its limits are lower than GEMINI_TIER or GEMINI_LIMITS say."
      do           = "Compare the project's limits in AI Studio with GET /health, and correct them in `settings`. If they agree, find what else uses the project's key, and give it a project of its own."
    }
    waiting = {
      display_name = "requests wait long"
      severity     = "WARNING"
      filter       = local.waited
      of           = null
      percentile   = true
      threshold    = 20000
      duration     = "600s"
      what         = "For ten minutes, one request in twenty waited over 20 s for a permit. Some are rejected with 429 when their time is up."
      do           = "Look at GET /health: a model or project that is stopped explains it. Otherwise callers want more than the limits allow: add a key of another project (README.md, \"Add a key\"), raise the tier, or lower the callers' rate."
    }
  }
}

resource "google_logging_metric" "requests" {
  name        = "${var.name_prefix}/requests"
  description = "Requests by function, model, outcome and status."
  filter      = "${local.logged} AND labels.outcome : *"

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

resource "google_logging_metric" "queue" {
  name            = "${var.name_prefix}/queue_ms"
  description     = "Milliseconds that requests waited for a permit, by function and model."
  filter          = "${local.logged} AND labels.queue_ms : *"
  value_extractor = "EXTRACT(labels.queue_ms)"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "ms"
    dynamic "labels" {
      for_each = ["function", "model"]
      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }
  label_extractors = { for label in ["function", "model"] : label => local.metric_labels[label] }
  # 1 ms to about 2 minutes.
  bucket_options {
    exponential_buckets {
      num_finite_buckets = 17
      growth_factor      = 2
      scale              = 1
    }
  }

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
  user_labels  = local.labels

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
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = each.value.percentile ? "ALIGN_DELTA" : "ALIGN_SUM"
        cross_series_reducer = each.value.percentile ? "REDUCE_PERCENTILE_95" : "REDUCE_SUM"
      }
      denominator_filter = each.value.of
      dynamic "denominator_aggregations" {
        for_each = each.value.of == null ? [] : [true]
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
    content   = "${each.value.what}\n\n**What to do:** ${each.value.do}"
    mime_type = "text/markdown"
  }

  # A policy on a metric that was created less than about ten minutes ago is rejected (404); building the functions takes longer.
  depends_on = [google_project_service.api["monitoring.googleapis.com"], google_cloudfunctions2_function.function]
}

# Records of severity CRITICAL: a process cannot serve, or must not be relied on. They need no metric.
resource "google_monitoring_alert_policy" "critical" {
  display_name          = "${var.name_prefix}: a critical record"
  combiner              = "OR"
  severity              = "CRITICAL"
  user_labels           = local.labels
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  conditions {
    display_name = "severity CRITICAL"
    condition_matched_log {
      filter = "${local.logged} AND severity >= CRITICAL"
    }
  }
  alert_strategy {
    auto_close = "1800s"
    notification_rate_limit {
      period = "3600s"
    }
  }
  documentation {
    content   = "A function cannot serve, or found that it cannot rely on what it needs (a setting, the store's clock).\n\n**What to do:** read the record's message in Logs Explorer (`severity=CRITICAL`): it names what is wrong and what to change. `the store's clock contradicts itself`: no setting is wrong; the instance requests its permits again, so that requests wait longer. If it comes more than once a day, report it with the records: Firestore then states times that the gateway does not expect (shared/ledger/README.md, A3b)."
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.api["monitoring.googleapis.com"], google_project_service.api["logging.googleapis.com"]]
}

resource "google_monitoring_uptime_check_config" "health" {
  for_each = toset(var.uptime_check ? ["health"] : [])

  display_name = "${var.name_prefix}: GET /health"
  period       = "300s"
  timeout      = "10s"
  user_labels  = local.labels
  http_check {
    path         = "/health"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }
  content_matchers {
    content = "\"healthy\""
    matcher = "CONTAINS_STRING"
  }
  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      host       = trimprefix(local.addresses[local.probed], "https://")
    }
  }

  lifecycle {
    precondition {
      condition     = local.probed != null && contains(try(local.functions[local.probed].invokers, []), "allUsers")
      error_message = "uptime_check needs a GET /health that everybody may call: give the health function invokers = [\"allUsers\"] in `functions`, or set uptime_check = false."
    }
  }
  depends_on = [google_project_service.api["monitoring.googleapis.com"]]
}

resource "google_monitoring_alert_policy" "down" {
  for_each = google_monitoring_uptime_check_config.health

  display_name          = "${var.name_prefix}: not reachable"
  combiner              = "OR"
  severity              = "CRITICAL"
  user_labels           = local.labels
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  conditions {
    display_name = "GET /health fails"
    condition_threshold {
      filter          = "resource.type = \"uptime_url\" AND metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id = \"${each.value.uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "300s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
    }
  }
  alert_strategy {
    auto_close = "1800s"
  }
  documentation {
    content   = "GET /health does not answer `healthy` from at least two places in the world.\n\n**What to do:** ask it yourself with `curl -i`. No answer at all: the domain, its certificate, or the load balancer. `degraded`: the ledger, whose reason is in the answer. 5xx: the function does not start, see its logs in Cloud Run."
    mime_type = "text/markdown"
  }
}

# Request logs of the platform have whole URLs, and Cloud Logging cannot remove a part. Entries whose URL holds a credential or
# a capability are not stored. The gateway's own record of the same request has neither.
resource "google_logging_project_exclusion" "secret_urls" {
  name        = "${var.name_prefix}-secret-urls"
  description = "Request logs whose URL holds a key, a ticket or a session."
  filter      = "((${local.logged} AND log_id(\"run.googleapis.com/requests\")) OR resource.type = \"http_load_balancer\") AND httpRequest.requestUrl =~ \"${local.secret_urls}\""

  depends_on = [google_project_service.api["logging.googleapis.com"]]
}

locals {
  # RE2, in a string of a filter: a backslash would have to be doubled.
  secret_urls = "[?&](key|ticket|session_id)=|^https?://[^/]+/(sessions|upload|stream)/"
}

# Budgets belong to a billing account, which the project's owner may not administer.
resource "google_billing_budget" "monthly" {
  for_each = var.billing_account == null ? {} : { budget = var.billing_account }

  billing_account = each.value
  display_name    = "${var.name_prefix}: ${var.project_id}"
  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }
  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }
  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }
  all_updates_rule {
    monitoring_notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
    disable_default_iam_recipients   = false
  }

  depends_on = [google_project_service.api["billingbudgets.googleapis.com"]]
}
