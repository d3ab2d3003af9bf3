locals {
  # A function's own address passes paths on as they are; the cloudfunctions.net one takes the first part away.
  addresses = {
    for name, function in google_cloudfunctions2_function.function :
    name => var.domain == null ? function.service_config[0].uri : "https://${var.domain}"
  }
}

output "urls" {
  description = "Path -> where it is called."
  value       = { for path, name in local.owners : path => "${local.addresses[name]}${path}" }
}

output "function_urls" {
  description = "Function -> the base that `python -m tests.smoke` takes."
  value       = local.addresses
}

output "services" {
  description = "Function -> its Cloud Run service, for `gcloud run services`."
  value       = { for name, function in local.functions : name => function.resource_name }
}

output "openai_base_url" {
  description = "A line for the environment of OpenAI's clients; null while no function has a path below /v1."
  value       = local.openai == null ? null : "OPENAI_BASE_URL=${local.addresses[local.openai]}/v1"
}

output "ledger_url" {
  description = "What the functions have as LEDGER_URL."
  value       = local.environment.LEDGER_URL
}

output "secrets" {
  description = "Variable -> the secret whose value is to be added."
  value       = { for name, secret in google_secret_manager_secret.secret : name => secret.secret_id }
}

output "service_accounts" {
  description = "Function -> the account that it runs as."
  value       = { for name, account in google_service_account.function : name => account.email }
}

output "bundle_object" {
  description = "The object that is deployed; a later apply can go back to it by the variable of this name."
  value       = coalesce(var.bundle_object, google_storage_bucket_object.bundle.name)
}

output "image_bucket" {
  description = "Where functions store images and files."
  value       = google_storage_bucket.images.name
}

output "edge_address" {
  description = "The address that the domain's A record must have; null without a domain."
  value       = one([for address in google_compute_global_address.edge : address.address])
}
