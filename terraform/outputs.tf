locals {
  # A function's own address passes paths on as they are; the cloudfunctions.net one takes the first part away.
  addresses = {
    for name, function in google_cloudfunctions2_function.function :
    name => var.domain == null ? function.service_config[0].uri : "https://${var.domain}"
  }
}

output "urls" {
  description = "Path -> its URL."
  value       = { for path, name in local.owners : path => "${local.addresses[name]}${path}" }
}

output "function_urls" {
  description = "Function -> its base URL, for `python -m tests.smoke`."
  value       = local.addresses
}

output "openai_base_url" {
  description = "OPENAI_BASE_URL for OpenAI's clients; null while no function has a path below /v1."
  value       = local.openai == null ? null : "OPENAI_BASE_URL=${local.addresses[local.openai]}/v1"
}

output "ledger_url" {
  description = "LEDGER_URL of the functions."
  value       = local.environment.LEDGER_URL
}

output "secrets" {
  description = "Variable -> the secret that needs a value."
  value       = { for name, secret in google_secret_manager_secret.secret : name => secret.secret_id }
}

output "service_accounts" {
  description = "Function -> its service account."
  value       = { for name, account in google_service_account.function : name => account.email }
}

output "bundle_object" {
  description = "The deployed archive; the variable of this name rolls back to it."
  value       = coalesce(var.bundle_object, google_storage_bucket_object.bundle.name)
}

output "image_bucket" {
  description = "Where functions store images and files."
  value       = google_storage_bucket.images.name
}

output "edge_address" {
  description = "The address for the domain's A record; null without a domain."
  value       = one([for address in google_compute_global_address.edge : address.address])
}
