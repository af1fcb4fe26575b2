# Values of the workload in the form of the accelerator's example for development.

subscription_id = "00000000-0000-0000-0000-000000000000"
tenant_id       = "11111111-1111-1111-1111-111111111111"

environment_code = "dev"
location         = "westeurope"
workload_name    = "genai"
identifier       = ""

# Filled by the accelerator's commands.
platform_resource_group_name = "rg-genai-dev-we-platform"
platform_acr_name            = ""
key_vault_name               = "kv-genai-dev"
aca_managed_identity_id      = ""
state_container_name         = "tfstate"
foundation_state_blob_key    = "dev/10-platform.tfstate"

gateway_log_mode = "dev"

app_settings = {
  # ----------------------------------------
  ## The level of the error log
  ## Example: warn
  APISIX_LOG_LEVEL = "info"

  # AZURE_OPENAI_ENDPOINT_0=https://ptu.openai.azure.com

  GATEWAY_REQUIRE_AUTH  = "true"
  GATEWAY_CLIENT_NAME_0 = "dev-client-0"

  AI_PROXY_READ_TIMEOUT = "300"
  OTEL_SAMPLE_RATE      = "1.0"
  ENABLE_DEBUG_EXPORTER = "true"
}

secrets = {
  ## One for each client
  GATEWAY_CLIENT_KEY_0 = "dev-key-0"

  # RESPONSES_AFFINITY_REDIS_PASSWORD = "change-me"
}

gateway_image = ""
hydrenv_image = ""

expose_gateway_public = true
gateway_target_port   = 9080
gateway_cpu           = 1.0
gateway_memory        = "2Gi"

log_analytics_workspace_id     = ""
app_insights_connection_string = ""

enable_alerts = false # until somebody reads them

tags = {
  owner       = "platform"
  environment = "dev"
}
