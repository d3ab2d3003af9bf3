# A folder with an endpoint.json is a function: there is no list of functions here.
locals {
  root = "${path.module}/.."
  manifests = {
    for file in fileset("${local.root}/functions", "*/endpoint.json") :
    dirname(file) => jsondecode(file("${local.root}/functions/${file}"))
  }

  # The numbers and names that `make check-config` needs too.
  bounds = jsondecode(file("${path.module}/bounds.json"))

  # The only package that reads the environment names every variable.
  settings_modules  = [for file in fileset("${local.root}/shared/settings", "*.py") : file("${local.root}/shared/settings/${file}")]
  known_settings    = toset([for name in regexall("\"([A-Z][A-Z0-9]*_[A-Z0-9_]+)\"", join("\n", local.settings_modules)) : name[0]])
  reserved_settings = toset(local.bounds.reserved_settings)
  # They may hold a credential.
  secret_settings = toset(local.bounds.secret_settings)
  # Google's libraries read the proxies too, and get the function's own credential from the metadata server, which no proxy reaches.
  proxied  = length(setintersection(var.secret_settings, ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"])) > 0
  no_proxy = join(",", distinct(compact(concat(split(",", replace(lookup(var.settings, "NO_PROXY", ""), " ", "")), ["metadata.google.internal", "169.254.169.254"]))))

  # The time that a function with requests to Gemini needs: REQUEST_TIMEOUT_SECONDS, and answer_s for the response, or store_s
  # where it also stores results (for which OPERATION_TIMEOUT_S in shared/media/obstore_calls.py allows 45 s).
  request_timeout_s = try(tonumber(var.settings["REQUEST_TIMEOUT_SECONDS"]), local.bounds.request_timeout_s)
  needed_timeout_s = {
    for name, manifest in local.manifests :
    name => local.request_timeout_s + (try(manifest.storage, "none") == "write" ? local.bounds.store_s : local.bounds.answer_s) if manifest.access != "public" && contains(manifest.secrets, "GEMINI_API_KEY")
  }

  # All instances that write share one ledger document per Google project. Measured: 20 at once work well; with 40 requests wait up
  # to three times as long as in one queue. comfortable_writers and max_writers bound all writing functions' max_instances together.
  max_instances = { for name, manifest in local.manifests : name => coalesce(
    try(var.functions[name].max_instances, null),
    coalesce(try(var.functions[name].concurrency, null), manifest.concurrency) >= local.bounds.many_requests_at_once
    ? local.bounds.max_instances.many_requests
    : try(manifest.store, "write") == "write" ? local.bounds.max_instances.writer : local.bounds.max_instances.other,
  ) }
  writer_instances = sum(concat([0], [for name, manifest in local.manifests : local.max_instances[name] if try(manifest.store, "write") == "write"]))

  # Variable of a key -> the project whose limits it counts against. A key without one counts under its variable's name, which no
  # project can have, so that a function without the key knows the name too.
  key_projects = { for variable, project in var.gemini_api_keys : variable => coalesce(project, variable) }

  functions = {
    for name, manifest in local.manifests : name => {
      resource_name = "${var.name_prefix}-${replace(name, "_", "-")}"
      description   = manifest.description
      paths         = keys(manifest.paths)
      public        = manifest.access == "public"
      storage       = try(manifest.storage, "none")
      store         = try(manifest.store, manifest.access == "public" ? "" : "write")
      memory_mb     = coalesce(try(var.functions[name].memory_mb, null), manifest.memory_mb)
      cpu           = coalesce(try(var.functions[name].cpu, null), manifest.cpu)
      concurrency   = coalesce(try(var.functions[name].concurrency, null), manifest.concurrency)
      timeout_s     = coalesce(try(var.functions[name].timeout_s, null), manifest.timeout_s)
      min_instances = try(var.functions[name].min_instances, 0)
      max_instances = local.max_instances[name]
      ingress       = coalesce(try(var.functions[name].ingress, null), var.domain == null ? "ALLOW_ALL" : "ALLOW_INTERNAL_AND_GCLB")
      invokers      = coalesce(try(var.functions[name].invokers, null), var.invokers)
      # One name in endpoint.json stands for the whole pool of the server's keys. Only functions with these use the stored
      # accounts, so only they get the key that decrypts them.
      secrets = setunion(contains(manifest.secrets, "GEMINI_API_KEY") ? var.secret_settings : setsubtract(var.secret_settings, ["ACCOUNTS_DATA_KEY"]), flatten([for secret in manifest.secrets : secret == "GEMINI_API_KEY" ? keys(var.gemini_api_keys) : [secret]]))
    }
  }

  environment = merge(var.settings, {
    GOOGLE_CLOUD_PROJECT = var.project_id
    LEDGER_URL           = "firestore://${var.project_id}/${google_firestore_database.gateway.name}"
    # By default the platform sets it to true, and the framework then parses every line of the log again.
    LOG_EXECUTION_ID = "false"
  }, var.restarted_at == null ? {} : { RESTARTED_AT = var.restarted_at }, local.proxied ? { NO_PROXY = local.no_proxy } : {})

  # Image links lead to the function that serves images. Its address is known before it is created
  # (cloud.google.com/run/docs/triggering/https-request, "Deterministic URL"), so there is no dependency cycle.
  image_function  = try(local.owners["/image/*"], null)
  image_addresses = local.image_function == null ? [] : ["https://${local.functions[local.image_function].resource_name}-${data.google_project.this.number}.${var.region}.run.app"]
  public_base_url = var.domain == null ? one(local.image_addresses) : "https://${var.domain}"
  storage_environment = merge(
    {
      STORAGE_URL    = "gs://${google_storage_bucket.images.name}"
      IMAGE_TTL_DAYS = var.image_ttl_days == null ? "unlimited" : tostring(var.image_ttl_days)
    },
    local.public_base_url == null ? {} : { PUBLIC_BASE_URL = local.public_base_url },
  )
  labels = merge({ application = var.name_prefix }, var.labels)
}

resource "google_cloudfunctions2_function" "function" {
  for_each = local.functions

  name        = each.value.resource_name
  location    = var.region
  description = each.value.description
  labels      = merge(local.labels, { function = each.key })

  build_config {
    # The pipeline tests on this version too (cloudbuild.yaml).
    runtime           = "python313"
    entry_point       = each.key
    service_account   = google_service_account.build.id
    docker_repository = google_artifact_registry_repository.images.id
    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = coalesce(var.bundle_object, google_storage_bucket_object.bundle.name)
      }
    }
  }

  service_config {
    available_memory                 = "${each.value.memory_mb}Mi"
    available_cpu                    = tostring(each.value.cpu)
    max_instance_request_concurrency = each.value.concurrency
    min_instance_count               = each.value.min_instances
    max_instance_count               = each.value.max_instances
    timeout_seconds                  = each.value.timeout_s
    ingress_settings                 = each.value.ingress
    all_traffic_on_latest_revision   = true
    service_account_email            = google_service_account.function[each.key].email

    environment_variables = merge(
      # A share of the instance's memory, because a sandbox may hide its limit from the process. `settings` may override it.
      { QUEUE_MAX_MB = tostring(floor(each.value.memory_mb / 6)) },
      # The load balancer appends its own address after the caller's. `settings` may set another place, for a further proxy.
      var.domain == null ? {} : { CLIENT_ADDRESS_FROM_END = "2" },
      local.environment,
      { for variable, project in local.key_projects : "${variable}_PROJECT" => project if contains(each.value.secrets, variable) },
      # Anybody may call a public function, so it holds no Gemini key; its GET /health reports these projects.
      each.value.public ? { GEMINI_PROJECTS = join(",", [for variable, project in local.key_projects : "${variable}=${project}"]) } : {},
      each.value.storage == "none" ? {} : local.storage_environment,
    )

    dynamic "secret_environment_variables" {
      for_each = each.value.secrets
      content {
        key        = secret_environment_variables.key
        project_id = data.google_project.this.number
        secret     = google_secret_manager_secret.secret[secret_environment_variables.key].secret_id
        version    = "latest"
      }
    }
  }

  lifecycle {
    precondition {
      condition     = length(each.value.resource_name) <= 49
      error_message = "${each.value.resource_name} is longer than the 49 characters that Cloud Run allows: shorten name_prefix or the folder's name."
    }
    precondition {
      condition     = each.value.concurrency >= 1 && each.value.concurrency <= 1000 && (each.value.concurrency == 1 || each.value.cpu >= 1)
      error_message = "${each.key}: concurrency must be from 1 to 1000, and more than 1 needs a whole CPU."
    }
    precondition {
      condition     = each.value.min_instances >= 0 && each.value.min_instances <= each.value.max_instances
      error_message = "${each.key}: min_instances must be from 0 to max_instances, here ${each.value.max_instances}."
    }
    precondition {
      condition     = each.value.timeout_s >= 1 && each.value.timeout_s <= 3600
      error_message = "${each.key}: timeout_s must be from 1 to 3600."
    }
    precondition {
      condition     = each.value.timeout_s >= lookup(local.needed_timeout_s, each.key, 0)
      error_message = "${each.key}: timeout_s must be at least ${lookup(local.needed_timeout_s, each.key, 0)}, or the platform ends requests that REQUEST_TIMEOUT_SECONDS allows: raise it in `functions`."
    }
    precondition {
      condition     = !each.value.public || length(setintersection(each.value.secrets, keys(var.gemini_api_keys))) == 0
      error_message = "${each.key}: a public function must not have GEMINI_API_KEY in its secrets, because anybody may call it."
    }
    precondition {
      condition     = contains(["none", "read", "write"], each.value.storage)
      error_message = "${each.key}: storage must be none, read or write."
    }
    precondition {
      condition     = contains(["none", "read", "write"], each.value.store)
      error_message = "${each.key}: store must be none, read or write, and a public function must set it."
    }
  }

  # A revision becomes ready only if its account may read its secrets; it is built only if the builder may read the source, and
  # created only by somebody who may act as its account.
  depends_on = [google_project_service.api, terraform_data.rights_spread]
}

check "ledger_writers" {
  assert {
    condition     = local.writer_instances <= local.bounds.comfortable_writers
    error_message = "The writing functions may have ${local.writer_instances} instances together, over ${local.bounds.comfortable_writers}: with more than about 20 at work at once, requests wait longer for the ledger. Lower max_instances in `functions`, and raise concurrency instead."
  }
}

check "quota_of_a_new_project" {
  assert {
    condition     = alltrue([for function in values(local.functions) : function.max_instances * function.cpu <= 20 && function.max_instances * function.memory_mb <= 40 * 1024])
    error_message = "A new project has 20 vCPU and 40 GiB of Cloud Run per region, and a function whose max_instances exceeds that is rejected: ${join(", ", [for name, function in local.functions : name if function.max_instances * function.cpu > 20 || function.max_instances * function.memory_mb > 40 * 1024])}. Lower max_instances, or request a higher quota."
  }
}
