# Values of the workload in the form of the accelerator's example for tests, with what only tests have.

subscription_id  = "00000000-0000-0000-0000-000000000000"
tenant_id        = "11111111-1111-1111-1111-111111111111"
environment_code = "test"
location         = "westeurope"

gateway_e2e_test_mode    = true
simulator_image          = "example.azurecr.io/simulator:1"
simulator_api_key        = "simulator-key-of-the-test"
config_api_shared_secret = "shared-secret-of-the-test"
gateway_log_mode         = "test"

app_settings = {
  GATEWAY_E2E_TEST_MODE = "true"
  GATEWAY_LOG_MODE      = "test"
  gateway_require_auth  = "true"
  GATEWAY_CLIENT_NAME_0 = "test-client-0"
  GATEWAY_CLIENT_NAME_1 = "test-client-1"

  ENABLE_AI_RATE_LIMIT     = true
  AI_RATE_LIMIT_HIGH_LIMIT = 100000
  AI_RATE_LIMIT_STRATEGY   = "total_tokens"
}

secrets = {
  GATEWAY_CLIENT_KEY_0              = "test-key-0"
  GATEWAY_CLIENT_KEY_1              = "test-key-1"
  RESPONSES_AFFINITY_REDIS_PASSWORD = "password-of-the-redis"
  AZURE_OPENAI_KEY_0                = "pending-foundry"
}

gateway_min_replicas = 2
