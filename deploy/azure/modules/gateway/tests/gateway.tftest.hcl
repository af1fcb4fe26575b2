mock_provider "azurerm" {
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-gw"
      client_id    = "0f8fad5b-d9cb-469f-a165-70867728950e"
      principal_id = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    }
  }
}

variables {
  name                         = "ca-gw-genai"
  identity_name                = "id-gw"
  resource_group_name          = "rg"
  location                     = "westeurope"
  environment_code             = "prod"
  container_app_environment_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.App/managedEnvironments/cae"
  image                        = "crgenai.azurecr.io/genai-gateway:0.1.0"
  registry_id                  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/crgenai"
  registry_login_server        = "crgenai.azurecr.io"
  vault_identity_id            = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-vault"
  key_vault_uri                = "https://kv-genai.vault.azure.net/"
  backends = [
    {
      name        = "ptu"
      endpoint    = "https://oai-ptu.openai.azure.com"
      location    = "swedencentral"
      priority    = 10
      weight      = 1
      deployments = ["gpt-5-mini", "text-embedding-3-small"]
      resource_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/oai-ptu"
    },
    {
      name        = "backup"
      endpoint    = "https://oai-backup.openai.azure.com"
      location    = "francecentral"
      priority    = 5
      weight      = 3
      resource_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/oai-backup"
    },
  ]
  app_settings             = { GATEWAY_CLIENT_NAME_0 = "chat" }
  secret_settings          = ["GATEWAY_CLIENT_KEY_0"]
  app_insights_secret_name = "applicationinsights-connection-string"
  redis = {
    host        = "amr-genai.westeurope.redis.azure.net"
    port        = 10000
    tls         = true
    secret_name = "responses-affinity-redis-password"
  }
  logs_ingest_uri     = "https://dce-genai.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-APISIXGatewayLogs?api-version=2023-01-01"
  logs_dcr_id         = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/dataCollectionRules/dcr-logs"
  prometheus_endpoint = "https://amw-ab12.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0123/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24"
  prometheus_dcr_id   = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/dataCollectionRules/dcr-prometheus"
}

run "the_app" {
  command = apply

  # ---- backends ----
  assert {
    condition = tomap({ for name, value in output.gateway_settings : name => value if startswith(name, "AZURE_OPENAI_") }) == tomap({
      AZURE_OPENAI_ENDPOINT_0    = "https://oai-ptu.openai.azure.com"
      AZURE_OPENAI_NAME_0        = "ptu"
      AZURE_OPENAI_REGION_0      = "swedencentral"
      AZURE_OPENAI_PRIORITY_0    = "10"
      AZURE_OPENAI_WEIGHT_0      = "1"
      AZURE_OPENAI_AUTH_MODE_0   = "entra"
      AZURE_OPENAI_DEPLOYMENTS_0 = "gpt-5-mini,text-embedding-3-small"
      AZURE_OPENAI_ENDPOINT_1    = "https://oai-backup.openai.azure.com"
      AZURE_OPENAI_NAME_1        = "backup"
      AZURE_OPENAI_REGION_1      = "francecentral"
      AZURE_OPENAI_PRIORITY_1    = "5"
      AZURE_OPENAI_WEIGHT_1      = "3"
      AZURE_OPENAI_AUTH_MODE_1   = "entra"
    })
    error_message = "Provisioned backends arrive complete, with Entra ID."
  }

  # ---- rights ----
  assert {
    condition = { for name, assignment in azurerm_role_assignment.this : name => [assignment.role_definition_name, assignment.scope] } == {
      registry   = ["AcrPull", var.registry_id]
      backend-0  = ["Cognitive Services OpenAI User", var.backends[0].resource_id]
      backend-1  = ["Cognitive Services OpenAI User", var.backends[1].resource_id]
      logs       = ["Monitoring Metrics Publisher", var.logs_dcr_id]
      prometheus = ["Monitoring Metrics Publisher", var.prometheus_dcr_id]
    }
    error_message = "The identity has these rights and no other."
  }
  assert {
    condition     = alltrue([for assignment in azurerm_role_assignment.this : can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/", assignment.scope)) && assignment.principal_id == "7c9e6679-7425-40de-944b-e07fc1f90ae7"])
    error_message = "Each right is on one resource, not on a group or the subscription."
  }

  # ---- secrets ----
  assert {
    condition     = alltrue([for secret in azurerm_container_app.this.secret : secret.key_vault_secret_id == "https://kv-genai.vault.azure.net/secrets/${secret.name}" && secret.identity == var.vault_identity_id])
    error_message = "Each secret is a reference to the vault, read by one identity."
  }
  assert {
    condition = output.secret_settings == tomap({
      GATEWAY_CLIENT_KEY_0                  = "gateway-client-key-0"
      APPLICATIONINSIGHTS_CONNECTION_STRING = "applicationinsights-connection-string"
      RESPONSES_AFFINITY_REDIS_PASSWORD     = "responses-affinity-redis-password"
    })
    error_message = "The containers get these secrets."
  }
  assert {
    condition     = length(setintersection(keys(output.gateway_settings), keys(output.secret_settings))) == 0
    error_message = "No name is both a setting and a secret, which would be two variables of one name."
  }

  # ---- containers ----
  assert {
    condition     = azurerm_container_app.this.template[0].container[*].name == tolist(["gateway", "otel-collector"]) && azurerm_container_app.this.template[0].init_container[*].name == tolist(["render"])
    error_message = "There is one gateway, the collector, and the container that renders."
  }
  assert {
    condition     = azurerm_container_app.this.template[0].init_container[0].image == azurerm_container_app.this.template[0].container[0].image && azurerm_container_app.this.template[0].init_container[0].args == tolist(["render", "--out", "/shared-configs/gateway"])
    error_message = "The gateway's own image renders."
  }
  assert {
    condition     = one([for env in azurerm_container_app.this.template[0].container[0].env : env.value if env.name == "GATEWAY_SHARED_DIR"]) == "/shared-configs/gateway"
    error_message = "The gateway starts from the rendered files."
  }
  assert {
    condition     = azurerm_container_app.this.template[0].container[1].args == tolist(["--config=/shared-configs/gateway/otel-collector.yaml"]) && azurerm_container_app.this.template[0].container[1].env[*].name == tolist(["APPLICATIONINSIGHTS_CONNECTION_STRING"])
    error_message = "The collector has its file, and the one secret that the file names."
  }
  assert {
    condition = alltrue([
      for container in concat(azurerm_container_app.this.template[0].container, azurerm_container_app.this.template[0].init_container) :
      length(distinct(container.env[*].name)) == length(container.env)
    ])
    error_message = "No container has a variable twice."
  }
  assert {
    condition = (
      one(azurerm_container_app.this.template[0].container[0].startup_probe).path == "/readyz"
      && one(azurerm_container_app.this.template[0].container[0].readiness_probe).path == "/readyz"
      && one(azurerm_container_app.this.template[0].container[0].liveness_probe).path == "/healthz"
      && one(azurerm_container_app.this.template[0].container[0].startup_probe).port == 7086
      && one(azurerm_container_app.this.template[0].container[0].readiness_probe).port == 7086
      && one(azurerm_container_app.this.template[0].container[0].liveness_probe).port == 7086
    )
    error_message = "The gateway has its three probes on port 7086."
  }

  # ---- traffic ----
  assert {
    condition     = azurerm_container_app.this.ingress[0].target_port == 9080 && azurerm_container_app.this.ingress[0].transport == "auto" && azurerm_container_app.this.ingress[0].external_enabled && azurerm_container_app.this.ingress[0].allow_insecure_connections == false
    error_message = "The ingress sends HTTPS to port 9080."
  }
  assert {
    condition     = azurerm_container_app.this.template[0].termination_grace_period_seconds >= 250
    error_message = "Running requests may end."
  }
  assert {
    condition     = azurerm_container_app.this.template[0].http_scale_rule[0].concurrent_requests == "60" && azurerm_container_app.this.template[0].custom_scale_rule[0].custom_rule_type == "cpu" && azurerm_container_app.this.template[0].min_replicas == 2
    error_message = "The gateway scales on requests and processors."
  }
  assert {
    condition     = azurerm_container_app.this.registry[0].identity == azurerm_user_assigned_identity.this.id
    error_message = "The image is pulled by the identity, without a password."
  }

  # ---- settings ----
  assert {
    condition     = output.gateway_settings.AZURE_MONITOR_WORKSPACE_ENDPOINT == "https://amw-ab12.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0123/streams/Microsoft-PrometheusMetrics" && output.gateway_settings.APIM_GATEWAY_LOGS_INGEST_URI == var.logs_ingest_uri
    error_message = "Metrics and records are wired."
  }
  assert {
    condition     = output.gateway_settings.AZURE_CLIENT_ID == "0f8fad5b-d9cb-469f-a165-70867728950e" && output.gateway_settings.GATEWAY_TRUSTED_PROXIES == "100.64.0.0/10" && output.gateway_settings.GATEWAY_WORKERS == "1"
    error_message = "The gateway knows its identity, its ingress and its processors."
  }
  assert {
    condition     = output.gateway_settings.AI_PROXY_STREAM_HEARTBEAT == "60s" && output.gateway_settings.AI_PROXY_FIRST_BYTE_TIMEOUT == "230s" && output.gateway_settings.AI_PROXY_DEADLINE == "230s"
    error_message = "A stream is never silent for as long as the ingress waits, and a request that has no answer by then ends with an error of the gateway."
  }
  assert {
    condition     = output.gateway_settings.RESPONSES_AFFINITY_REDIS_HOST == "amr-genai.westeurope.redis.azure.net" && output.gateway_settings.RESPONSES_AFFINITY_REDIS_PORT == "10000" && output.gateway_settings.RESPONSES_AFFINITY_REDIS_TLS == "true" && !contains(keys(output.gateway_settings), "AI_RATE_LIMIT_POLICY")
    error_message = "Affinity is in the Redis. Without a limit nothing is said about limits."
  }
}

run "limits_are_counted_in_the_redis" {
  command = apply
  variables {
    app_settings = { GATEWAY_CLIENT_NAME_0 = "chat", GATEWAY_CLIENT_TOKENS_PER_MINUTE_0 = "1000" }
  }
  assert {
    condition     = output.gateway_settings.AI_RATE_LIMIT_POLICY == "redis" && output.gateway_settings.AI_RATE_LIMIT_REDIS_HOST == "amr-genai.westeurope.redis.azure.net" && output.gateway_settings.AI_RATE_LIMIT_REDIS_TLS == "true" && output.secret_settings.AI_RATE_LIMIT_REDIS_PASSWORD == "responses-affinity-redis-password"
    error_message = "Limits are counted in the Redis that replicas share."
  }
  assert {
    condition     = length(azurerm_container_app.this.secret) == 3
    error_message = "Two settings with one secret are one reference."
  }
}

run "a_switch_that_is_off_counts_nothing" {
  command = apply
  variables {
    app_settings = { ENABLE_RATE_LIMIT = "false" }
  }
  assert {
    condition     = !contains(keys(output.gateway_settings), "AI_RATE_LIMIT_POLICY")
    error_message = "Without a limit nothing is said about limits."
  }
}

run "app_settings_win_over_what_is_derived" {
  command = apply
  variables {
    app_settings = { AZURE_OPENAI_WEIGHT_0 = "0", AI_PROXY_STREAM_HEARTBEAT = "15s", AI_PROXY_FIRST_BYTE_TIMEOUT = "10m", GATEWAY_WORKERS = "2", AZURE_OPENAI_ENDPOINT_2 = "https://mine.openai.azure.com" }
  }
  assert {
    condition     = output.gateway_settings.AZURE_OPENAI_WEIGHT_0 == "0" && output.gateway_settings.AI_PROXY_STREAM_HEARTBEAT == "15s" && output.gateway_settings.AI_PROXY_FIRST_BYTE_TIMEOUT == "10m" && output.gateway_settings.GATEWAY_WORKERS == "2" && output.gateway_settings.AZURE_OPENAI_ENDPOINT_2 == "https://mine.openai.azure.com"
    error_message = "A provisioned backend can be drained, and others be added."
  }
}

run "a_longer_idle_timeout_gives_backends_more_time" {
  command = apply
  variables {
    ingress_idle_timeout_minutes = 30
  }
  assert {
    condition     = output.gateway_settings.AI_PROXY_STREAM_HEARTBEAT == "450s" && output.gateway_settings.AI_PROXY_FIRST_BYTE_TIMEOUT == "1790s" && output.gateway_settings.AI_PROXY_DEADLINE == "1790s"
    error_message = "Streams get a heartbeat after a quarter of the idle timeout, and backends have as long as the ingress waits."
  }
}

run "to_zero_with_the_rule_on_requests_alone" {
  command = plan
  variables {
    min_replicas        = 0
    cpu_scale_threshold = null
  }
  assert {
    condition     = azurerm_container_app.this.template[0].min_replicas == 0 && length(azurerm_container_app.this.template[0].custom_scale_rule) == 0 && length(azurerm_container_app.this.template[0].http_scale_rule) == 1
    error_message = "The gateway may scale to zero."
  }
}

run "nothing_of_azure_but_the_app" {
  command = apply
  variables {
    backends                 = []
    registry_id              = ""
    registry_login_server    = ""
    app_insights_secret_name = ""
    redis                    = null
    logs_ingest_uri          = ""
    logs_dcr_id              = ""
    prometheus_endpoint      = ""
    prometheus_dcr_id        = ""
  }
  assert {
    condition     = length(azurerm_role_assignment.this) == 0 && length(azurerm_container_app.this.registry) == 0 && length(azurerm_container_app.this.secret) == 1 && length(azurerm_container_app.this.template[0].container[1].env) == 0
    error_message = "What is not there has no right, no registry and no secret."
  }
}

run "to_zero_with_a_rule_on_processors_is_refused" {
  command = plan
  variables {
    min_replicas = 0
  }
  expect_failures = [var.min_replicas]
}

run "a_secret_in_app_settings_is_refused" {
  command = plan
  variables {
    app_settings = { GATEWAY_CLIENT_KEY_0 = "planted" }
  }
  expect_failures = [var.app_settings]
}

run "a_key_of_a_backend_in_app_settings_is_refused" {
  command = plan
  variables {
    app_settings = { AZURE_OPENAI_KEY_7 = "planted" }
  }
  expect_failures = [var.app_settings]
}

run "a_value_among_names_of_secrets_is_refused" {
  command = plan
  variables {
    secret_settings = ["planted-value"]
  }
  expect_failures = [var.secret_settings]
}

run "a_setting_that_terraform_sets_is_refused" {
  command = plan
  variables {
    app_settings = { RESPONSES_AFFINITY_REDIS_HOST = "mine.example.com" }
  }
  expect_failures = [azurerm_container_app.this]
}

run "a_setting_that_is_also_a_secret_is_refused" {
  command = plan
  variables {
    app_settings    = { MODEL_PRICES = "gpt-5-mini=1/2" }
    secret_settings = ["MODEL_PRICES"]
  }
  expect_failures = [azurerm_container_app.this]
}

run "half_of_a_provisioned_backend_is_refused" {
  command = plan
  variables {
    app_settings = { AZURE_OPENAI_ENDPOINT_1 = "https://mine.openai.azure.com" }
  }
  expect_failures = [azurerm_container_app.this]
}

run "a_key_for_a_provisioned_backend_is_refused" {
  command = plan
  variables {
    secret_settings = ["GATEWAY_CLIENT_KEY_0", "AZURE_OPENAI_KEY_0"]
  }
  expect_failures = [azurerm_container_app.this]
}

run "a_grace_period_shorter_than_the_drain_is_refused" {
  command = plan
  variables {
    termination_grace_period_seconds = 240
  }
  expect_failures = [var.termination_grace_period_seconds]
}

run "wrong_names_are_refused" {
  command = plan
  variables {
    name = "Gateway"
  }
  expect_failures = [var.name]
}

run "images_without_a_version_are_refused" {
  command = plan
  variables {
    image                = "crgenai.azurecr.io/genai-gateway:latest"
    otel_collector_image = "otel/opentelemetry-collector-contrib:0.138.0"
  }
  expect_failures = [var.image, var.otel_collector_image]
}

run "half_of_a_registry_is_refused" {
  command = plan
  variables {
    registry_login_server = ""
  }
  expect_failures = [var.registry_login_server]
}

run "something_else_than_identity_and_vault_is_refused" {
  command = plan
  variables {
    vault_identity_id = "id-vault"
    key_vault_uri     = "https://kv-genai.example.com"
  }
  expect_failures = [var.vault_identity_id, var.key_vault_uri]
}

run "a_backend_without_an_account_is_refused" {
  command = plan
  variables {
    backends = [{ name = "a", endpoint = "https://a.openai.azure.com", location = "swedencentral", priority = 5, weight = 1, resource_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg" }]
  }
  expect_failures = [var.backends]
}

run "telemetry_without_a_rule_is_refused" {
  command = plan
  variables {
    logs_dcr_id       = ""
    prometheus_dcr_id = ""
  }
  expect_failures = [var.logs_ingest_uri, var.prometheus_endpoint]
}

run "an_unknown_log_mode_is_refused" {
  command = plan
  variables {
    log_mode = "verbose"
  }
  expect_failures = [var.log_mode]
}

run "single_addresses_of_proxies_are_taken" {
  command = plan
  variables {
    trusted_proxies = ["100.64.0.0/10", "203.0.113.7"]
  }
  assert {
    condition     = output.gateway_settings.GATEWAY_TRUSTED_PROXIES == "100.64.0.0/10,203.0.113.7"
    error_message = "A proxy can be a single address."
  }
}

run "proxies_that_are_no_ranges_are_refused" {
  command = plan
  variables {
    trusted_proxies = ["ingress"]
  }
  expect_failures = [var.trusted_proxies]
}

run "processors_that_azure_does_not_have_are_refused" {
  command = plan
  variables {
    cpu = 0.3
  }
  expect_failures = [var.cpu]
}

run "more_processors_than_a_replica_has_are_refused" {
  command = plan
  variables {
    cpu    = 4
    memory = "8Gi"
  }
  expect_failures = [var.cpu]
}

run "a_share_for_the_collector_that_azure_does_not_have_is_refused" {
  command = plan
  variables {
    otel_collector_cpu = 0.1
  }
  expect_failures = [var.otel_collector_cpu]
}

run "memory_that_does_not_fit_is_refused" {
  command = plan
  variables {
    memory                = "1Gi"
    otel_collector_memory = "1Gi"
  }
  expect_failures = [var.memory, var.otel_collector_memory]
}

run "fewer_than_no_replicas_are_refused" {
  command = plan
  variables {
    min_replicas = -1
  }
  expect_failures = [var.min_replicas]
}

run "a_maximum_below_the_minimum_is_refused" {
  command = plan
  variables {
    max_replicas = 1
  }
  expect_failures = [var.max_replicas]
}

run "thresholds_that_never_scale_are_refused" {
  command = plan
  variables {
    http_concurrency    = 0
    cpu_scale_threshold = 101
  }
  expect_failures = [var.http_concurrency, var.cpu_scale_threshold]
}

run "a_rollback_needs_a_revision" {
  command = plan
  variables {
    max_inactive_revisions = 0
  }
  expect_failures = [var.max_inactive_revisions]
}
