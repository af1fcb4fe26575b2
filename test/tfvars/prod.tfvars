# Values of the workload in the form of the accelerator's example for production, with accounts that exist.

subscription_id  = "00000000-0000-0000-0000-000000000000"
tenant_id        = "11111111-1111-1111-1111-111111111111"
environment_code = "prod"
location         = "swedencentral"
workload_name    = "genai"

use_provisioned_azure_openai = false

app_settings = {
  GATEWAY_REQUIRE_AUTH     = "true"
  GATEWAY_CLIENT_NAME_0    = "prod-client-0"
  AZURE_OPENAI_ENDPOINT_0  = "https://genai-ptu.openai.azure.com"
  AZURE_OPENAI_PRIORITY_0  = "10"
  AZURE_OPENAI_ENDPOINT_1  = "https://genai-payg.openai.azure.com/"
  AZURE_OPENAI_PRIORITY_1  = "5"
  AI_PROXY_CONNECT_TIMEOUT = "3"
  CORS_ALLOW_ORIGINS       = ""
}

secrets = {
  GATEWAY_CLIENT_KEY_0 = "prod-key-0"
  AZURE_OPENAI_KEY_0   = "0123456789abcdef0123456789abcdef"
  AZURE_OPENAI_KEY_1   = "fedcba9876543210fedcba9876543210"
}

gateway_image        = "genai.azurecr.io/apisix-az-genai-accelerator/gateway:0123456789ab"
gateway_min_replicas = 3
log_retention_days   = 90
enable_alerts        = true

tags = { environment = "prod" }
