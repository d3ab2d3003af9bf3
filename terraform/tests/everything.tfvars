# Every resource, for the checks.
project_id          = "demo-project"
region              = "europe-west1"
domain              = "gateway.example.com"
alert_emails        = ["operator@example.com"]
uptime_check        = true
billing_account     = "012345-6789AB-CDEF01"
labels              = { team = "platform" }
deletion_protection = false
rights_wait_s       = 0

gemini_api_keys = {
  GEMINI_API_KEY_1 = "quota-project-1"
  GEMINI_API_KEY_2 = null
}
settings = {
  GEMINI_TIER = "tier2"
  CORS_ORIGIN = "https://app.example.com"
  IMAGE_URLS  = "signed"
}
secret_settings = ["ACCOUNTS_DATA_KEY", "HTTPS_PROXY"]
functions = {
  chat = { min_instances = 1, max_instances = 3 }
}
cloud_build = {
  repository   = "projects/demo-project/locations/us-central1/connections/code/repositories/gateway"
  state_bucket = "demo-project-terraform-state"
}
