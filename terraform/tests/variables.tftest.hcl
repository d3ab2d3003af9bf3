# What variables may be. Nothing is made: the provider is a mock with the real one's schema.
mock_provider "google" {}

# Terraform also reads an operator's terraform.tfvars for tests, so that every variable has its default here, which has precedence.
variables {
  project_id                      = "demo-project"
  region                          = "us-central1"
  firestore_location              = null
  name_prefix                     = "gemini"
  labels                          = {}
  settings                        = {}
  secret_settings                 = []
  gemini_api_keys                 = { GEMINI_API_KEY = null }
  functions                       = {}
  invokers                        = ["allUsers"]
  bundle                          = "../dist/bundle.zip"
  bundle_object                   = null
  image_ttl_days                  = 30
  domain                          = null
  requests_per_minute_per_address = 6000
  alert_emails                    = []
  uptime_check                    = false
  billing_account                 = null
  monthly_budget                  = 100
  cloud_build                     = null
  restarted_at                    = null
  deletion_protection             = true
  rights_wait_s                   = 0
}

run "a_project_is_enough" {
  command = plan
  assert {
    condition     = length(google_cloudfunctions2_function.function) == length(fileset("${path.module}/../functions", "*/endpoint.json"))
    error_message = "Each folder with an endpoint.json is a function."
  }
  assert {
    condition     = length(google_compute_url_map.edge) == 0 && length(google_cloudbuild_trigger.trigger) == 0
    error_message = "Without a domain there is no load balancer, without a repository no trigger."
  }
  assert {
    condition     = alltrue([for one in values(google_cloudfunctions2_function.function) : one.service_config[0].ingress_settings == "ALLOW_ALL"])
    error_message = "Without a domain functions are reached directly."
  }
  assert {
    condition     = google_cloudfunctions2_function.function["generate"].service_config[0].environment_variables.PUBLIC_BASE_URL == "https://gemini-image-${data.google_project.this.number}.us-central1.run.app"
    error_message = "Links to images lead to the function that serves them."
  }
  assert {
    condition     = length(google_service_account_iam_member.signs_as_itself) == 0 && !contains(keys(google_project_service.api), "iamcredentials.googleapis.com")
    error_message = "No function signs unless images are served by signed addresses."
  }
  assert {
    condition     = google_firestore_database.gateway.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "The ledger is protected unless somebody says otherwise."
  }
}

# Each of these must be refused; that one is does not hide another.
run "what_is_no_name_or_address" {
  command = plan
  variables {
    project_id         = "My Project"
    region             = "us-central1-a"
    name_prefix        = "1st_gateway"
    labels             = { Team = "platform" }
    settings           = { GEMINI_TEIR = "tier2" }
    gemini_api_keys    = { MY_KEY = null }
    functions          = { chatt = { max_instances = 3 } }
    invokers           = ["allUsers", "group:team@example.com"]
    firestore_location = "eur-3"
    bundle             = "../dist/nothing.zip"
    bundle_object      = "bundle.zip"
    domain             = "https://gateway.example.com"
    alert_emails       = ["operator"]
    image_ttl_days     = 0
    billing_account    = "my account"
    monthly_budget     = 0.5
    cloud_build        = { repository = "owner/name", state_bucket = "state" }
  }
  expect_failures = [
    var.project_id, var.region, var.firestore_location, var.name_prefix, var.labels, var.settings, var.gemini_api_keys, var.functions, var.invokers,
    var.bundle, var.bundle_object, var.domain, var.alert_emails, var.image_ttl_days, var.billing_account, var.monthly_budget, var.cloud_build,
  ]
}

run "what_terraform_decides_itself_or_would_be_too_much" {
  command = plan
  variables {
    secret_settings                 = ["LOG_LEVEL"]
    functions                       = { chat = { max_instances = 0 } }
    invokers                        = ["allAuthenticatedUsers"]
    requests_per_minute_per_address = 1
  }
  expect_failures = [var.secret_settings, var.functions, var.invokers, var.requests_per_minute_per_address]
}

run "more_writers_than_the_ledger_takes" {
  command = plan
  variables {
    functions = { chat = { max_instances = 41 } }
  }
  expect_failures = [google_firestore_database.gateway, check.ledger_writers, check.quota_of_a_new_project]
}

run "more_writers_than_are_comfortable" {
  command = plan
  variables {
    functions = { chat = { cpu = 2, max_instances = 19 }, generate_text = { max_instances = 1 } }
  }
  expect_failures = [check.ledger_writers, check.quota_of_a_new_project]
}

run "what_a_function_cannot_be" {
  command = plan
  variables {
    functions = {
      chat   = { cpu = 0.5, max_instances = 1 }
      health = { min_instances = 3, max_instances = 2 }
    }
  }
  expect_failures = [google_cloudfunctions2_function.function["chat"], google_cloudfunctions2_function.function["health"]]
}

run "invokers_by_name_and_no_keys_but_the_callers" {
  command = plan
  variables {
    gemini_api_keys = {}
    image_ttl_days  = null
    invokers        = ["group:team@example.com", "serviceAccount:app@demo-project.iam.gserviceaccount.com"]
    functions       = { health = { invokers = ["allUsers"] } }
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_member.invoker["chat/group:team@example.com"].role == "roles/run.invoker"
    error_message = "Each of the list may invoke each function."
  }
  assert {
    condition     = !contains(keys(google_cloud_run_v2_service_iam_member.invoker), "chat/allUsers")
    error_message = "A list leaves everybody else out."
  }
  assert {
    condition     = contains(keys(google_cloud_run_v2_service_iam_member.invoker), "health/allUsers")
    error_message = "A function may have invokers of its own."
  }
  assert {
    condition     = !contains(keys(google_secret_manager_secret.secret), "GEMINI_API_KEY")
    error_message = "Without a key of the server's there is no secret for one."
  }
  assert {
    condition     = google_cloudfunctions2_function.function["image"].service_config[0].environment_variables.IMAGE_TTL_DAYS == "unlimited"
    error_message = "Images that are kept are shown without end."
  }
  assert {
    condition     = length(google_storage_bucket.images.lifecycle_rule) == 2
    error_message = "Images that are kept: only files of callers and unfinished uploads are deleted."
  }
}

run "no_uptime_check_of_a_private_function" {
  command = plan
  variables {
    uptime_check = true
    invokers     = ["group:team@example.com"]
  }
  expect_failures = [google_monitoring_uptime_check_config.health["health"]]
}

run "a_restart_changes_every_function" {
  command = plan
  variables {
    restarted_at = "2026-11-30T08:00Z"
  }
  assert {
    condition     = alltrue([for one in values(google_cloudfunctions2_function.function) : one.service_config[0].environment_variables.RESTARTED_AT == "2026-11-30T08:00Z"])
    error_message = "A new value in the environment makes a new revision, whose instances read their secrets again."
  }
}

run "nobody_by_iam" {
  command = plan
  variables {
    invokers  = []
    functions = { health = { invokers = ["allUsers"] }, chat = { invokers = [] } }
  }
  assert {
    condition     = join(",", keys(google_cloud_run_v2_service_iam_member.invoker)) == "health/allUsers"
    error_message = "An empty list grants nothing: where the organization rejects allUsers, the invoker check is switched off instead."
  }
}

run "a_proxy_exempts_the_metadata_server" {
  command = plan
  variables {
    secret_settings = ["HTTPS_PROXY"]
    settings        = { NO_PROXY = "internal.example, 169.254.169.254" }
  }
  assert {
    condition     = google_cloudfunctions2_function.function["chat"].service_config[0].environment_variables.NO_PROXY == "internal.example,169.254.169.254,metadata.google.internal"
    error_message = "What settings exempts stays exempt, and the metadata server is."
  }
}

run "no_proxy_is_set_as_given_without_a_proxy" {
  command = plan
  variables {
    settings = { NO_PROXY = "internal.example" }
  }
  assert {
    condition     = google_cloudfunctions2_function.function["chat"].service_config[0].environment_variables.NO_PROXY == "internal.example"
    error_message = "NO_PROXY is a setting like others."
  }
}

run "a_domain_has_one_edge" {
  command = plan
  variables {
    domain = "gateway.example.com"
  }
  assert {
    condition     = length(google_compute_backend_service.function) == length(google_cloudfunctions2_function.function)
    error_message = "Each function is behind the load balancer."
  }
  assert {
    condition     = alltrue([for one in values(google_cloudfunctions2_function.function) : one.service_config[0].ingress_settings == "ALLOW_INTERNAL_AND_GCLB"])
    error_message = "Nothing goes past Cloud Armor."
  }
}
