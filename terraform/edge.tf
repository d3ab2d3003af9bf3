# With a domain: one HTTPS load balancer that maps the same paths as the local server.
locals {
  edge = var.domain == null ? {} : { edge = var.domain }

  owners = merge([for name, function in local.functions : { for path in function.paths : path => name }]...)
  # A URL map compares a whole path or a prefix: of a template (/sessions/{id}) or a wildcard (/image/*) that is
  # the part before the first parameter or `*`. Two functions with the same prefix are an error (`one`); the bundle says which.
  exact = { for path, name in local.owners : path => name if !can(regex("[{*]", path)) }
  below = { for path, name in local.owners : regex("^[^{*]+", path) => name... if can(regex("[{*]", path)) }
  # The function that owns `/` answers unknown paths, with 404 in the gateway's format.
  root_function = local.owners["/"]

  # The longest prefix wins, so longer ones come first; the number orders them in `sort`.
  below_by_length = [for key in reverse(sort([for prefix in keys(local.below) : format("%04d %s", length(prefix), prefix)])) : split(" ", key)[1]]

  # OpenAI's and Gemini's clients share /v1; headers that only one of them sends decide.
  native = try(local.owners["/v1beta/*"], null)
  openai = try(local.owners["/v1/chat/completions"], local.owners["/v1/*"], null)
  native_rules = local.native == null || local.openai == null ? [] : flatten([
    [{ prefix = "/v1/models/", header = ":method", value = "POST", query = null }],
    [for prefix in ["/v1/models", "/v1/files"] : concat(
      [for header in ["x-goog-api-key", "x-goog-api-client"] : { prefix = prefix, header = header, value = null, query = null }],
      [{ prefix = prefix, header = null, value = null, query = "key" }],
    )],
  ])

  # In the order in which they are tried.
  routes = concat(
    length(local.native_rules) == 0 ? [] : [{ function = local.native, matches = [for rule in local.native_rules : merge({ full = null }, rule)] }],
    # A slash at the end makes no difference to a function.
    [for name in sort(distinct(values(local.exact))) : {
      function = name
      matches = flatten([for path, owner in local.exact : [
        for full in distinct([path, "${trimsuffix(path, "/")}/"]) : { full = full, prefix = null, header = null, value = null, query = null }
      ] if owner == name])
    }],
    [for prefix in local.below_by_length : {
      function = one(distinct(local.below[prefix]))
      matches  = [{ full = null, prefix = prefix, header = null, value = null, query = null }]
    }],
  )
}

resource "google_compute_global_address" "edge" {
  for_each = local.edge

  name       = "${var.name_prefix}-edge"
  depends_on = [google_project_service.api["compute.googleapis.com"]]
}

resource "google_compute_region_network_endpoint_group" "function" {
  for_each = var.domain == null ? {} : local.functions

  name                  = each.value.resource_name
  region                = var.region
  network_endpoint_type = "SERVERLESS"
  cloud_run {
    service = google_cloudfunctions2_function.function[each.key].name
  }

  depends_on = [google_project_service.api["compute.googleapis.com"]]
}

resource "google_compute_backend_service" "function" {
  for_each = google_compute_region_network_endpoint_group.function

  name                  = each.value.name
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.edge["edge"].id
  backend {
    group = each.value.id
  }
  log_config {
    enable      = true
    sample_rate = 1
  }
}

resource "google_compute_security_policy" "edge" {
  for_each = local.edge

  name        = "${var.name_prefix}-edge"
  description = "Limits the rate of each address. Bodies are prompts, so rules that look for code in them would reject valid requests."

  adaptive_protection_config {
    layer_7_ddos_defense_config {
      enable = true
    }
  }
  rule {
    priority    = 1000
    action      = "throttle"
    description = "At most ${var.requests_per_minute_per_address} requests a minute from one address"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = var.requests_per_minute_per_address
        interval_sec = 60
      }
    }
  }
  rule {
    priority    = 2147483647
    action      = "allow"
    description = "Everything else; the gateway asks for its own credential"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [google_project_service.api["compute.googleapis.com"]]
}

resource "google_compute_url_map" "edge" {
  for_each = local.edge

  name            = "${var.name_prefix}-edge"
  default_service = google_compute_backend_service.function[local.root_function].id

  host_rule {
    hosts        = [each.value]
    path_matcher = "functions"
  }
  path_matcher {
    name            = "functions"
    default_service = google_compute_backend_service.function[local.root_function].id

    dynamic "route_rules" {
      for_each = local.routes
      content {
        priority = route_rules.key + 1
        service  = google_compute_backend_service.function[route_rules.value.function].id

        dynamic "match_rules" {
          for_each = route_rules.value.matches
          content {
            full_path_match = match_rules.value.full
            prefix_match    = match_rules.value.prefix

            dynamic "header_matches" {
              for_each = match_rules.value.header == null ? [] : [match_rules.value.header]
              content {
                header_name   = header_matches.value
                exact_match   = match_rules.value.value
                present_match = match_rules.value.value == null ? true : null
              }
            }
            dynamic "query_parameter_matches" {
              for_each = match_rules.value.query == null ? [] : [match_rules.value.query]
              content {
                name          = query_parameter_matches.value
                present_match = true
              }
            }
          }
        }
      }
    }
  }
}

resource "google_compute_managed_ssl_certificate" "edge" {
  for_each = local.edge

  # Its domain cannot be changed: another domain is another certificate, made before the old one goes.
  name = "${var.name_prefix}-${substr(md5(each.value), 0, 8)}"
  managed {
    domains = [each.value]
  }
  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.api["compute.googleapis.com"]]
}

resource "google_compute_ssl_policy" "edge" {
  for_each = local.edge

  name            = "${var.name_prefix}-edge"
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"
  depends_on      = [google_project_service.api["compute.googleapis.com"]]
}

resource "google_compute_target_https_proxy" "edge" {
  for_each = local.edge

  name             = "${var.name_prefix}-edge"
  url_map          = google_compute_url_map.edge[each.key].id
  ssl_certificates = [google_compute_managed_ssl_certificate.edge[each.key].id]
  ssl_policy       = google_compute_ssl_policy.edge[each.key].id
}

resource "google_compute_global_forwarding_rule" "https" {
  for_each = local.edge

  name                  = "${var.name_prefix}-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.edge[each.key].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.edge[each.key].id
  labels                = local.labels
}

resource "google_compute_url_map" "to_https" {
  for_each = local.edge

  name = "${var.name_prefix}-to-https"
  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "PERMANENT_REDIRECT"
    strip_query            = false
  }

  depends_on = [google_project_service.api["compute.googleapis.com"]]
}

resource "google_compute_target_http_proxy" "to_https" {
  for_each = local.edge

  name    = "${var.name_prefix}-to-https"
  url_map = google_compute_url_map.to_https[each.key].id
}

resource "google_compute_global_forwarding_rule" "http" {
  for_each = local.edge

  name                  = "${var.name_prefix}-http"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.edge[each.key].id
  port_range            = "80"
  target                = google_compute_target_http_proxy.to_https[each.key].id
  labels                = local.labels
}
