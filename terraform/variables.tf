variable "project_id" {
  description = "Google Cloud project that contains all resources."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id must be a project's id like my-project-123456: 6 to 30 lower case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of the functions, the buckets and, unless firestore_location is set, the ledger. New projects may build containers only in some regions: us-central1, us-west2, europe-west1, asia-east1, australia-southeast1 and southamerica-east1 always work."
  type        = string
  default     = "us-central1"
  validation {
    condition     = can(regex("^(africa|asia|australia|europe|me|northamerica|southamerica|us)-(north|south|central)?(east|west)?[0-9]{1,2}$", var.region))
    error_message = "region must be a region of Google Cloud like us-central1 or europe-west1, not a zone."
  }
}

variable "firestore_location" {
  description = "Location of the Firestore database; null is the region. It can never be changed. A multi-region (nam5, eur3) costs more and is slower."
  type        = string
  default     = null
  validation {
    condition     = var.firestore_location == null || can(regex("^(nam[57]|eur3|(africa|asia|australia|europe|me|northamerica|southamerica|us)-(north|south|central)?(east|west)?[0-9]{1,2})$", var.firestore_location))
    error_message = "firestore_location must be a region like us-central1, or nam5, nam7 or eur3."
  }
}

variable "name_prefix" {
  description = "Prefix of the name of every resource, so that several gateways fit into one project."
  type        = string
  default     = "gemini"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,14}[a-z0-9]$", var.name_prefix))
    error_message = "name_prefix must be 3 to 16 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "labels" {
  description = "Labels of every resource that supports them, besides application = <name_prefix>."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels may have at most 63 lower case letters, digits, hyphens and underscores, and a key must begin with a letter."
  }
}

variable "settings" {
  description = "Environment variables of every function, as .env.example describes them. Variables that hold a secret, and variables that Terraform sets itself, are rejected."
  type        = map(string)
  default     = {}
  validation {
    condition     = length(setsubtract(keys(var.settings), local.known_settings)) == 0
    error_message = "settings has ${join(", ", setsubtract(keys(var.settings), local.known_settings))}, which shared/settings/ does not read."
  }
  validation {
    condition     = length(setintersection(keys(var.settings), local.reserved_settings)) == 0
    error_message = "settings has ${join(", ", setintersection(keys(var.settings), local.reserved_settings))}, which Terraform sets itself."
  }
  validation {
    condition     = !anytrue([for name in keys(var.settings) : can(regex("API_KEY(_[0-9]+)?$", name))])
    error_message = "A key is a secret: it goes into Secret Manager. Name Gemini keys in gemini_api_keys."
  }
  validation {
    condition     = length(setintersection(keys(var.settings), local.secret_settings)) == 0
    error_message = "settings has ${join(", ", setintersection(keys(var.settings), local.secret_settings))}, which may hold a credential: name it in secret_settings instead, and add its value to Secret Manager."
  }
}

variable "secret_settings" {
  description = "Environment variables of every function whose values come from Secret Manager, besides the keys: any of ACCOUNTS_DATA_KEY (only functions with Gemini keys get it), ALL_PROXY, HTTP_PROXY, HTTPS_PROXY and OTEL_EXPORTER_OTLP_HEADERS."
  type        = set(string)
  default     = []
  validation {
    condition     = length(setsubtract(var.secret_settings, local.secret_settings)) == 0
    error_message = "secret_settings has ${join(", ", setsubtract(var.secret_settings, local.secret_settings))}; it may have ${join(", ", local.secret_settings)}."
  }
}

variable "gemini_api_keys" {
  description = "The server's Gemini keys: variable -> Google Cloud project whose quota the key uses (null: a project of its own). Their values are added to Secret Manager. {}: only callers send keys."
  type        = map(string)
  default     = { GEMINI_API_KEY = null }
  validation {
    condition     = alltrue([for name in keys(var.gemini_api_keys) : can(regex("^GEMINI_API_KEY(_[0-9]{1,4})?$", name))])
    error_message = "gemini_api_keys may have GEMINI_API_KEY, GEMINI_API_KEY_1, GEMINI_API_KEY_2 and so on."
  }
}

variable "functions" {
  description = "Overrides of a function's endpoint.json, and its number of instances, by the name of its folder."
  type = map(object({
    memory_mb     = optional(number)
    cpu           = optional(number)
    concurrency   = optional(number)
    timeout_s     = optional(number)
    min_instances = optional(number, 0)
    max_instances = optional(number)
    ingress       = optional(string)
    invokers      = optional(list(string))
  }))
  default = {}
  validation {
    condition     = length(setsubtract(keys(var.functions), keys(local.manifests))) == 0
    error_message = "functions has ${join(", ", setsubtract(keys(var.functions), keys(local.manifests)))}, for which there is no folder below functions/ with an endpoint.json."
  }
  validation {
    condition     = alltrue([for one in values(var.functions) : coalesce(one.max_instances, 1) >= 1])
    error_message = "max_instances must be at least 1."
  }
  validation {
    condition     = alltrue([for one in values(var.functions) : contains(["ALLOW_ALL", "ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"], coalesce(one.ingress, "ALLOW_ALL"))])
    error_message = "ingress must be ALLOW_ALL, ALLOW_INTERNAL_ONLY or ALLOW_INTERNAL_AND_GCLB."
  }
}

variable "invokers" {
  description = "Who may call the functions: [\"allUsers\"] (everybody; the gateway checks its own credential), a list of IAM members (they send their ID token in X-Serverless-Authorization), or [] (nobody by IAM). An organization with domain restricted sharing rejects allUsers: see README.md, \"The organization rejects allUsers\"."
  type        = list(string)
  default     = ["allUsers"]
  validation {
    condition     = !contains(var.invokers, "allUsers") || length(var.invokers) == 1
    error_message = "invokers must be [\"allUsers\"], a list of members without allUsers, or []."
  }
  validation {
    condition     = !contains(var.invokers, "allAuthenticatedUsers")
    error_message = "allAuthenticatedUsers means anybody with a Google account; use allUsers, or name the members."
  }
}

variable "bundle" {
  description = "The archive that `make bundle` built, relative to this folder."
  type        = string
  default     = "../dist/bundle.zip"
  validation {
    condition     = fileexists("${path.module}/${var.bundle}")
    error_message = "There is no ${var.bundle}: run `make bundle` first."
  }
}

variable "bundle_object" {
  description = "Deploy this earlier object of the source bucket instead (the output bundle_object of an earlier apply)."
  type        = string
  default     = null
  validation {
    condition     = var.bundle_object == null || can(regex("^bundle/[0-9a-f]{32}\\.zip$", var.bundle_object))
    error_message = "bundle_object must be a name like bundle/<md5>.zip."
  }
}

variable "image_ttl_days" {
  description = "Days after which a stored image or file expires and is deleted; null keeps it."
  type        = number
  default     = 30
  validation {
    condition     = var.image_ttl_days == null || try(var.image_ttl_days >= 1 && var.image_ttl_days <= 3650 && floor(var.image_ttl_days) == var.image_ttl_days, false)
    error_message = "image_ttl_days must be a whole number from 1 to 3650, or null."
  }
}

variable "domain" {
  description = "Host name of the gateway: creates a load balancer with one address, a certificate and Cloud Armor. null: each function has its own URL."
  type        = string
  default     = null
  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.domain))
    error_message = "domain must be a host name like gateway.example.com."
  }
}

variable "requests_per_minute_per_address" {
  description = "Requests per minute that Cloud Armor allows from one address; more get 429. Needs domain."
  type        = number
  default     = 6000
  validation {
    condition     = var.requests_per_minute_per_address >= 60 && var.requests_per_minute_per_address <= 100000
    error_message = "requests_per_minute_per_address must be from 60 to 100000."
  }
}

variable "alert_emails" {
  description = "E-mail addresses for alerts. Without any, alerts are shown only in Cloud Monitoring."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", address))])
    error_message = "alert_emails must be e-mail addresses."
  }
}

variable "uptime_check" {
  description = "Checks GET /health from several places in the world every five minutes, and alerts when it does not answer `healthy`. It keeps an instance of that function warm."
  type        = bool
  default     = false
}

variable "billing_account" {
  description = "Billing account of the project, like 012345-6789AB-CDEF01: makes a budget whose alerts go to alert_emails. Whoever applies needs roles/billing.costsManager on it. null: no budget."
  type        = string
  default     = null
  validation {
    condition     = var.billing_account == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "billing_account must be like 012345-6789AB-CDEF01: `gcloud billing projects describe PROJECT` shows it."
  }
}

variable "monthly_budget" {
  description = "Whole amount, in the billing account's currency, at 50, 90 and 100 % of which the budget's alerts are sent. Needs billing_account."
  type        = number
  default     = 100
  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "monthly_budget must be a whole number of at least 1."
  }
}

variable "cloud_build" {
  description = "Deploy from a repository: its Cloud Build resource (projects/*/locations/*/connections/*/repositories/*), the branch, and the bucket of this state. null: no trigger."
  type = object({
    repository   = string
    state_bucket = string
    branch       = optional(string, "^main$")
  })
  default = null
  validation {
    condition     = var.cloud_build == null || can(regex("^projects/[^/]+/locations/[^/]+/connections/[^/]+/repositories/[^/]+$", var.cloud_build.repository))
    error_message = "cloud_build.repository must be projects/*/locations/*/connections/*/repositories/*."
  }
}

variable "restarted_at" {
  description = "Any text, for example the time. A change of it starts every instance again, which then reads the newest values of its secrets."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Protects the ledger's database and the image bucket from deletion. Apply with false before `terraform destroy`."
  type        = bool
  default     = true
}

variable "rights_wait_s" {
  description = "Seconds that an apply waits for new service agents, and then for new rights, before it uses them. Google applies both with a delay."
  type        = number
  default     = 60
  validation {
    condition     = var.rights_wait_s >= 0 && var.rights_wait_s <= 600
    error_message = "rights_wait_s must be from 0 to 600."
  }
}
