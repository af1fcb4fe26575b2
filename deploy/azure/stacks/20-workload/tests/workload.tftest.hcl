# Mocked providers have no ephemeral resources, so azapi and random are real. Nothing calls Azure: the resources of azapi
# are overridden, and the first plan does not know the resources whose credentials it would read.
provider "azapi" {
  subscription_id = "00000000-0000-0000-0000-000000000000"
  tenant_id       = "11111111-1111-1111-1111-111111111111"
}
mock_provider "azurerm" {
  # The plan has values in place of what Azure decides, so that it can be checked as a whole.
  override_during = plan

  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-gw"
      client_id    = "0f8fad5b-d9cb-469f-a165-70867728950e"
      principal_id = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    }
  }
  mock_resource "azurerm_container_app_environment" {
    defaults = {
      id                = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.App/managedEnvironments/cae"
      default_domain    = "cae.westeurope.azurecontainerapps.io"
      static_ip_address = "10.60.0.4"
    }
  }
  mock_resource "azurerm_private_dns_zone" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/zone" }
  }
  mock_resource "azurerm_monitor_action_group" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/actionGroups/ag" }
  }
}

override_resource {
  target          = module.redis[0].azapi_resource.cluster
  override_during = plan
  values = {
    id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Cache/redisEnterprise/amr-genai"
    output = { host = "amr-genai.westeurope.redis.azure.net" }
  }
}

override_data {
  target = data.terraform_remote_state.upstream["platform"]
  values = {
    outputs = {
      platform_resource_group_name = "rg-platform"
      platform_acr_name            = "crgenai"
      platform_acr_id              = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-platform/providers/Microsoft.ContainerRegistry/registries/crgenai"
      platform_acr_login_server    = "crgenai.azurecr.io"
      key_vault_name               = "kv-genai"
      key_vault_id                 = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-platform/providers/Microsoft.KeyVault/vaults/kv-genai"
      key_vault_uri                = "https://kv-genai.vault.azure.net/"
      aca_managed_identity_id      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-platform/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-vault"
    }
  }
}
override_data {
  target = data.terraform_remote_state.upstream["foundry"]
  values = {
    outputs = {
      azure_openai_endpoints = [
        {
          index       = 0
          name        = "primary"
          endpoint    = "https://oai-genai-primary.openai.azure.com"
          host        = "oai-genai-primary.openai.azure.com"
          location    = "swedencentral"
          priority    = 10
          weight      = 2
          deployments = ["gpt-5-mini"]
          resource_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-foundry/providers/Microsoft.CognitiveServices/accounts/oai-genai-primary"
        },
      ]
      virtual_network_id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-foundry/providers/Microsoft.Network/virtualNetworks/vnet"
      container_apps_subnet_id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-foundry/providers/Microsoft.Network/virtualNetworks/vnet/subnets/apps"
      container_apps_subnet_prefix = "10.60.0.0/23"
      private_endpoints_subnet_id  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-foundry/providers/Microsoft.Network/virtualNetworks/vnet/subnets/pe"
      private_dns_zone_ids = {
        key_vault = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-foundry/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net"
        redis     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-foundry/providers/Microsoft.Network/privateDnsZones/privatelink.redis.azure.net"
      }
    }
  }
}

variables {
  subscription_id              = "00000000-0000-0000-0000-000000000000"
  tenant_id                    = "11111111-1111-1111-1111-111111111111"
  environment_code             = "prod"
  location                     = "westeurope"
  workload_name                = "genai"
  state_resource_group_name    = "rg-state"
  state_storage_account_name   = "stgenai"
  foundation_state_blob_key    = "prod/10-platform.tfstate"
  openai_state_blob_key        = "prod/15-foundry.tfstate"
  use_provisioned_azure_openai = true
  gateway_image                = "crgenai.azurecr.io/genai-gateway:0.1.0"
  app_settings                 = { GATEWAY_CLIENT_NAME_0 = "chat" }
  secret_settings              = ["GATEWAY_CLIENT_KEY_0"]
  app_insights_id              = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-obs/providers/Microsoft.Insights/components/appi"
}

run "a_gateway_in_the_network_of_15_foundry" {
  command = plan

  assert {
    condition     = module.environment.id != "" && length(azurerm_private_endpoint.key_vault) == 1
    error_message = "The environment is in the network, and the vault has a private endpoint there."
  }
  assert {
    condition     = output.gateway_settings.GATEWAY_TRUSTED_PROXIES == "100.64.0.0/10,10.60.0.0/23"
    error_message = "The gateway believes the ingress, and nobody else."
  }
  assert {
    condition     = output.gateway_settings.AZURE_OPENAI_ENDPOINT_0 == "https://oai-genai-primary.openai.azure.com" && output.gateway_settings.AZURE_OPENAI_AUTH_MODE_0 == "entra"
    error_message = "The provisioned account is a backend."
  }
  assert {
    condition     = join(" ", output.secret_names) == "applicationinsights-connection-string gateway-client-key-0 responses-affinity-redis-password"
    error_message = "The secrets are named, and nothing else of them is known."
  }
  assert {
    condition     = alltrue([for role in output.role_assignments : can(regex("/providers/", role.scope)) && !strcontains(role.role, "Contributor") && !strcontains(role.role, "Owner") && role.role != "Reader"]) && length(output.role_assignments) == 2
    error_message = "The gateway has rights on single resources."
  }
  assert {
    condition     = output.gateway_app_name == "ca-gw-genai-prod-we" && output.resource_group_name == "rg-genai-prod-we-workload" && output.aca_environment_name == "cae-genai-prod-we" && output.acr_login_server == "crgenai.azurecr.io" && output.key_vault_name == "kv-genai"
    error_message = "Names follow the pattern."
  }
  assert {
    condition     = output.alert_action_group_id == null
    error_message = "Alerts are off by default."
  }
}

run "all_by_variables_without_a_state_and_a_network" {
  command = plan
  variables {
    state_storage_account_name   = ""
    use_provisioned_azure_openai = false
    platform_resource_group_name = "rg-mine"
    platform_acr_name            = "crmine"
    key_vault_name               = "kv-mine"
    aca_managed_identity_id      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-mine"
    redis_kind                   = "none"
    app_insights_id              = ""
    azure_openai_backends = [{
      name        = "mine"
      endpoint    = "https://mine.openai.azure.com"
      location    = "swedencentral"
      resource_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.CognitiveServices/accounts/mine"
    }]
  }
  assert {
    condition     = length(data.terraform_remote_state.upstream) == 0 && length(azurerm_private_endpoint.key_vault) == 0
    error_message = "No state is read, and there is no network."
  }
  assert {
    condition     = output.role_assignments.registry.scope == "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.ContainerRegistry/registries/crmine" && output.acr_login_server == "crmine.azurecr.io"
    error_message = "The registry is found by its name."
  }
  assert {
    condition     = output.gateway_settings.AZURE_OPENAI_NAME_0 == "mine" && output.responses_affinity_cache_fqdn == null && join(" ", output.secret_names) == "gateway-client-key-0"
    error_message = "An existing account is a backend. There is no Redis."
  }
}

run "alerts_on_metrics_and_records" {
  command = plan
  variables {
    enable_alerts                            = true
    log_analytics_workspace_id               = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-obs/providers/Microsoft.OperationalInsights/workspaces/log"
    azure_monitor_workspace_id               = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-obs/providers/Microsoft.Monitor/accounts/amw"
    azure_monitor_prometheus_endpoint        = "https://amw-ab12.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0123/streams/Microsoft-PrometheusMetrics"
    azure_monitor_prometheus_dcr_id          = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-obs/providers/Microsoft.Insights/dataCollectionRules/dcr-prometheus"
    gateway_log_ingest_uri                   = "https://dce.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-APISIXGatewayLogs?api-version=2023-01-01"
    gateway_log_ingest_dcr_id                = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-obs/providers/Microsoft.Insights/dataCollectionRules/dcr-logs"
    alert_email_receivers                    = [{ name = "on-call", email = "on-call@example.com" }]
    alert_severities                         = { critical = 0, warning = 3 }
    alert_unserved_budget_percent            = 0.5
    alert_first_token_p95_threshold_ms       = 2500
    alert_failover_threshold_percent         = 30
    alert_authentication_failures_per_second = 7
    alert_minimum_requests                   = 50
  }
  assert {
    condition     = output.alert_action_group_id != null && output.gateway_settings.CLUSTER_NAME == output.gateway_app_name && output.gateway_settings.APIM_GATEWAY_ID == output.gateway_app_name
    error_message = "The alerts see the metrics and records of this gateway alone."
  }
  assert {
    condition     = output.role_assignments.logs.role == "Monitoring Metrics Publisher" && output.role_assignments.logs.scope == var.gateway_log_ingest_dcr_id && output.role_assignments.prometheus.scope == var.azure_monitor_prometheus_dcr_id
    error_message = "The gateway may write to the two rules."
  }
}

run "what_another_stack_did_not_make_is_left_out" {
  command = plan
  variables {
    # As outputs of 05-observability are without a table for records.
    gateway_log_ingest_uri    = null
    gateway_log_ingest_dcr_id = null
    # As a tool writes what somebody did not answer.
    identifier                        = null
    app_settings                      = null
    secret_settings                   = null
    azure_openai_backends             = null
    platform_acr_id                   = null
    key_vault_id                      = null
    container_apps_subnet_prefix      = null
    private_dns_zone_ids              = null
    gateway_trusted_proxies           = null
    log_analytics_workspace_id        = null
    azure_monitor_workspace_id        = null
    azure_monitor_prometheus_endpoint = null
    azure_monitor_prometheus_dcr_id   = null
    app_insights_id                   = null
    gateway_min_replicas              = null
    gateway_cpu                       = null
    otel_collector_image              = null
    enable_alerts                     = null
    tags                              = null
  }
  assert {
    condition     = !contains(keys(output.gateway_settings), "APIM_GATEWAY_LOGS_INGEST_URI") && !contains(keys(output.role_assignments), "logs") && join(" ", output.secret_names) == "responses-affinity-redis-password"
    error_message = "null says the same as the default."
  }
}

run "alerts_on_nothing_are_refused" {
  command = plan
  variables {
    enable_alerts = true
  }
  expect_failures = [terraform_data.inputs]
}

run "secrets_in_variables_are_refused" {
  command = plan
  variables {
    secrets                        = { GATEWAY_CLIENT_KEY_0 = "planted" }
    app_insights_connection_string = "InstrumentationKey=planted"
  }
  expect_failures = [terraform_data.inputs]
}

run "the_test_mode_has_three_simulators_and_no_other_backend" {
  command = plan
  variables {
    environment_code      = "e2e"
    gateway_e2e_test_mode = true
    simulator_image       = "crgenai.azurecr.io/aoai-api-simulator:0.5"
  }
  assert {
    condition = output.gateway_settings.GATEWAY_E2E_TEST_MODE == "true" && join(" ", [for index in [0, 1, 2] : "${output.gateway_settings["AZURE_OPENAI_NAME_${index}"]}=${output.gateway_settings["AZURE_OPENAI_ENDPOINT_${index}"]}"]) == join(" ", [
      "ptu-backend-1=https://ca-sim-ptu1-genai-e2e-we.cae.westeurope.azurecontainerapps.io",
      "payg-backend-1=https://ca-sim-payg1-genai-e2e-we.cae.westeurope.azurecontainerapps.io",
      "payg-backend-2=https://ca-sim-payg2-genai-e2e-we.cae.westeurope.azurecontainerapps.io",
    ]) && !contains(keys(output.gateway_settings), "AZURE_OPENAI_ENDPOINT_3")
    error_message = "Only the simulators are backends; the account of 15-foundry is not a backend."
  }
  assert {
    condition     = alltrue([for index in [0, 1, 2] : output.secret_settings["AZURE_OPENAI_KEY_${index}"] == "simulator-api-key"]) && output.simulator_secret_name == "simulator-api-key"
    error_message = "Their key comes from the vault."
  }
  assert {
    condition     = output.gateway_settings.AI_RATE_LIMIT_POLICY == "redis"
    error_message = "Replicas share the budgets of the pools."
  }
  assert {
    condition     = !anytrue([for role in output.role_assignments : role.role == "Cognitive Services OpenAI User"])
    error_message = "The gateway needs no right on an account."
  }
}

run "without_the_test_mode_there_are_no_simulators" {
  command = plan
  assert {
    condition     = output.simulator_urls == null && output.simulator_secret_name == null && !contains(keys(output.gateway_settings), "GATEWAY_E2E_TEST_MODE")
    error_message = "Nothing of the test mode is there."
  }
}

run "the_test_mode_needs_an_image" {
  command = plan
  variables {
    environment_code      = "e2e"
    gateway_e2e_test_mode = true
  }
  expect_failures = [terraform_data.inputs]
}

run "the_test_mode_takes_no_other_backends" {
  command = plan
  variables {
    environment_code      = "e2e"
    gateway_e2e_test_mode = true
    simulator_image       = "crgenai.azurecr.io/aoai-api-simulator:0.5"
    app_settings          = { AZURE_OPENAI_ENDPOINT_5 = "https://mine.openai.azure.com" }
  }
  expect_failures = [terraform_data.inputs]
}

run "the_test_mode_warns_in_production" {
  command = plan
  variables {
    gateway_e2e_test_mode = true
    simulator_image       = "crgenai.azurecr.io/aoai-api-simulator:0.5"
  }
  expect_failures = [check.test_mode]
}

run "another_port_is_refused" {
  command = plan
  variables {
    gateway_target_port = 8080
  }
  expect_failures = [var.gateway_target_port]
}

run "an_unknown_redis_is_refused" {
  command = plan
  variables {
    redis_kind = "enterprise"
  }
  expect_failures = [var.redis_kind]
}

run "ids_that_are_none_are_refused" {
  command = plan
  variables {
    platform_acr_id            = "crgenai"
    key_vault_id               = "kv-genai"
    existing_resource_group_id = "rg"

    virtual_network_id              = "vnet"
    container_apps_subnet_id        = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet"
    private_endpoints_subnet_id     = "pe"
    private_dns_zone_ids            = { key_vault = "privatelink.vaultcore.azure.net", redis = "privatelink.redis.azure.net" }
    log_analytics_workspace_id      = "log"
    gateway_log_ingest_dcr_id       = "dcr-0123456789abcdef0123456789abcdef"
    azure_monitor_workspace_id      = "amw"
    azure_monitor_prometheus_dcr_id = "dcr-prometheus"
  }
  expect_failures = [
    var.platform_acr_id,
    var.key_vault_id,
    var.existing_resource_group_id,
    var.virtual_network_id,
    var.container_apps_subnet_id,
    var.private_endpoints_subnet_id,
    var.private_dns_zone_ids,
    var.log_analytics_workspace_id,
    var.gateway_log_ingest_dcr_id,
    var.azure_monitor_workspace_id,
    var.azure_monitor_prometheus_dcr_id,
  ]
}

run "who_and_where_are_checked" {
  command = plan
  variables {
    subscription_id              = "my-subscription"
    tenant_id                    = "contoso.onmicrosoft.com"
    container_apps_subnet_prefix = "10.60.0.0"
    state_storage_account_name   = "St-Genai"
    foundation_state_blob_key    = "prod/<stack>.tfstate"
    openai_state_blob_key        = "/prod/15-foundry.tfstate"
  }
  expect_failures = [
    var.subscription_id,
    var.tenant_id,
    var.container_apps_subnet_prefix,
    var.state_storage_account_name,
    var.foundation_state_blob_key,
    var.openai_state_blob_key,
  ]
}

run "two_backends_with_one_name_are_refused" {
  command = plan
  variables {
    azure_openai_backends = [
      { name = "a", endpoint = "https://a.openai.azure.com", location = "swedencentral", resource_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/a" },
      { name = "a", endpoint = "https://b.openai.azure.com", location = "swedencentral", resource_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/b" },
    ]
  }
  expect_failures = [var.azure_openai_backends]
}

run "provisioned_backends_without_their_state_are_refused" {
  command = plan
  variables {
    openai_state_blob_key = ""
  }
  expect_failures = [terraform_data.inputs]
}

run "a_subnet_without_the_rest_of_the_network_is_refused" {
  command = plan
  variables {
    openai_state_blob_key        = ""
    use_provisioned_azure_openai = false
    redis_kind                   = "none"
    container_apps_subnet_id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/apps"
    private_endpoints_subnet_id  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/pe"
    private_dns_zone_ids         = { key_vault = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/z" }
  }
  expect_failures = [terraform_data.inputs]
}
