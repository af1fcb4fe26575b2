# The gateway: its environment, its Redis, its secrets, its rights, its alerts.

module "names" {
  source = "../../modules/names"

  subscription_id  = var.subscription_id
  workload_name    = var.workload_name
  environment_code = var.environment_code
  identifier       = var.identifier
  location         = var.location
}

# Only stacks whose outputs have no secrets are read: Terraform copies all outputs into this stack's state. That is why
# what comes from 05-observability is given by variables.
data "terraform_remote_state" "upstream" {
  for_each = var.state_storage_account_name == "" ? {} : {
    for stack, key in {
      platform = var.foundation_state_blob_key
      foundry  = var.use_provisioned_azure_openai ? var.openai_state_blob_key : ""
    } : stack => key if key != ""
  }

  backend = "azurerm"
  config = {
    use_azuread_auth     = true
    subscription_id      = var.subscription_id
    tenant_id            = var.tenant_id
    resource_group_name  = var.state_resource_group_name
    storage_account_name = var.state_storage_account_name
    container_name       = var.state_container_name
    key                  = each.value
  }
}

locals {
  tags = merge({
    workload    = var.workload_name
    environment = var.environment_code
    managed_by  = "terraform"
  }, var.tags)

  # They are called sensitive for the sake of error messages alone.
  app_settings    = nonsensitive(var.app_settings)
  secret_settings = nonsensitive(var.secret_settings)

  platform = merge({
    platform_resource_group_name = ""
    platform_acr_name            = ""
    platform_acr_id              = ""
    platform_acr_login_server    = ""
    key_vault_name               = ""
    key_vault_id                 = ""
    key_vault_uri                = ""
    aca_managed_identity_id      = ""
  }, try(data.terraform_remote_state.upstream["platform"].outputs, {}))
  foundry = merge({
    azure_openai_endpoints       = []
    virtual_network_id           = ""
    container_apps_subnet_id     = ""
    container_apps_subnet_prefix = ""
    private_endpoints_subnet_id  = ""
    private_dns_zone_ids         = {}
  }, try(data.terraform_remote_state.upstream["foundry"].outputs, {}))

  # A variable wins over the other stack's output. The names of the accelerator, of group and registry, lead to an ID too.
  platform_rg  = try(coalesce(var.platform_resource_group_name, local.platform.platform_resource_group_name), "")
  group_prefix = "/subscriptions/${var.subscription_id}/resourceGroups/${local.platform_rg}/providers"

  registry_name         = try(coalesce(var.platform_acr_name, local.platform.platform_acr_name), "")
  registry_id           = try(coalesce(var.platform_acr_id, local.platform.platform_acr_id), local.registry_name == "" ? "" : "${local.group_prefix}/Microsoft.ContainerRegistry/registries/${local.registry_name}")
  registry_login_server = try(coalesce(var.platform_acr_login_server, local.platform.platform_acr_login_server), local.registry_id == "" ? "" : "${basename(local.registry_id)}.azurecr.io")

  key_vault_name    = try(coalesce(var.key_vault_name, local.platform.key_vault_name), "")
  key_vault_id      = try(coalesce(var.key_vault_id, local.platform.key_vault_id), "${local.group_prefix}/Microsoft.KeyVault/vaults/${local.key_vault_name}")
  key_vault_uri     = try(coalesce(var.key_vault_uri, local.platform.key_vault_uri), "https://${local.key_vault_name}.vault.azure.net/")
  vault_identity_id = try(coalesce(var.aca_managed_identity_id, local.platform.aca_managed_identity_id), "")

  # In the test mode the simulators are the only backends: the plain paths would mix their answers with those of accounts.
  backends = var.gateway_e2e_test_mode ? [] : length(var.azure_openai_backends) > 0 ? var.azure_openai_backends : [
    for backend in local.foundry.azure_openai_endpoints : {
      name        = backend.name
      endpoint    = backend.endpoint
      location    = backend.location
      priority    = backend.priority
      weight      = backend.weight
      deployments = backend.deployments
      resource_id = backend.resource_id
    }
  ]

  virtual_network_id          = try(coalesce(var.virtual_network_id, local.foundry.virtual_network_id), "")
  container_apps_subnet_id    = try(coalesce(var.container_apps_subnet_id, local.foundry.container_apps_subnet_id), "")
  private_endpoints_subnet_id = try(coalesce(var.private_endpoints_subnet_id, local.foundry.private_endpoints_subnet_id), "")
  private_dns_zone_ids        = length(var.private_dns_zone_ids) > 0 ? var.private_dns_zone_ids : local.foundry.private_dns_zone_ids
  network_isolation           = local.container_apps_subnet_id != ""
  external_enabled            = var.expose_gateway_public || local.network_isolation

  # The ingress has addresses of Azure's shared range, or with nodes of its own addresses of the environment's subnet.
  subnet_prefix   = try(coalesce(var.container_apps_subnet_prefix, local.foundry.container_apps_subnet_prefix), "")
  trusted_proxies = length(var.gateway_trusted_proxies) > 0 ? var.gateway_trusted_proxies : compact(["100.64.0.0/10", local.subnet_prefix])

  resource_group_name = var.existing_resource_group_id == null ? azurerm_resource_group.workload[0].name : split("/", var.existing_resource_group_id)[4]
  resource_group_id   = var.existing_resource_group_id == null ? azurerm_resource_group.workload[0].id : var.existing_resource_group_id

  # Names of Container Apps have 32 characters at most.
  gateway_name       = var.gateway_name_override != "" ? var.gateway_name_override : trimsuffix(substr("ca-gw-${module.names.suffix}", 0, 32), "-")
  redis_default_name = var.redis_kind == "managed" ? "amr-${module.names.suffix}-${module.names.unique}" : trimsuffix(substr("ca-redis-${module.names.suffix}", 0, 32), "-")
  redis_name         = var.redis_name_override != "" ? var.redis_name_override : local.redis_default_name
}

resource "azurerm_resource_group" "workload" {
  count = var.existing_resource_group_id == null ? 1 : 0

  name     = var.workload_rg_name_override != "" ? var.workload_rg_name_override : "rg-${module.names.suffix}-workload"
  location = module.names.location
  tags     = local.tags
}

# Variables and other stacks' states must give a whole together.
resource "terraform_data" "inputs" {
  lifecycle {
    # Not as validations of the variables: for those Terraform prints the lines of the tfvars file, with the secrets in them.
    precondition {
      condition     = nonsensitive(length(var.secrets)) == 0
      error_message = "secrets is not empty. Write only the names into secret_settings = [\"GATEWAY_CLIENT_KEY_0\"], and put each value into the vault: az keyvault secret set --vault-name VAULT --name gateway-client-key-0 --file FILE. Leave out AZURE_OPENAI_KEY_N of provisioned backends and RESPONSES_AFFINITY_REDIS_PASSWORD."
    }

    precondition {
      condition     = nonsensitive(var.app_insights_connection_string == "")
      error_message = "app_insights_connection_string is not empty. Write app_insights_id instead: the connection string then goes straight into the vault."
    }

    precondition {
      condition     = local.key_vault_name != "" || (var.key_vault_id != "" && var.key_vault_uri != "")
      error_message = "There is no vault. Write key_vault_name, or key_vault_id and key_vault_uri, or let this stack read the state of 10-platform: state_storage_account_name and foundation_state_blob_key."
    }

    precondition {
      condition     = !var.use_provisioned_azure_openai || length(local.backends) > 0 || local.network_isolation
      error_message = "use_provisioned_azure_openai is true, but the state of 15-foundry has neither accounts nor a network. Apply 15-foundry, and write state_storage_account_name and openai_state_blob_key."
    }

    precondition {
      condition     = !var.gateway_e2e_test_mode || var.simulator_image != ""
      error_message = "gateway_e2e_test_mode is true, and there is no image of the simulators. Write simulator_image, or use `genai-gateway deploy --deploy-e2e`, which builds it."
    }

    precondition {
      condition = !var.gateway_e2e_test_mode || (length(var.azure_openai_backends) == 0 && !anytrue([
        for name in concat(keys(local.app_settings), tolist(local.secret_settings)) : can(regex("^AZURE_OPENAI_[A-Z_]+_[0-9]+$", name))
      ]))
      error_message = "gateway_e2e_test_mode is true, so the simulators are the only backends. Leave out azure_openai_backends, and AZURE_OPENAI_… in app_settings and secret_settings, or use an environment of its own."
    }

    precondition {
      condition     = !local.network_isolation || local.private_endpoints_subnet_id != ""
      error_message = "container_apps_subnet_id needs private_endpoints_subnet_id. Write both, or neither."
    }

    precondition {
      condition     = !local.network_isolation || alltrue([for key in ["key_vault", "redis"] : contains(keys(local.private_dns_zone_ids), key)])
      error_message = "private_dns_zone_ids lacks a zone. With a virtual network write the zones key_vault and redis."
    }

    precondition {
      condition     = !var.enable_alerts || var.azure_monitor_workspace_id != "" || (var.gateway_log_ingest_uri != "" && var.log_analytics_workspace_id != "")
      error_message = "enable_alerts is true, and there is nothing to alert on. Write azure_monitor_workspace_id for alerts on metrics, gateway_log_ingest_uri and log_analytics_workspace_id for alerts on records, or enable_alerts = false."
    }
  }
}

module "environment" {
  source = "../../modules/environment"

  name                          = var.aca_env_name_override != "" ? var.aca_env_name_override : "cae-${module.names.suffix}"
  resource_group_name           = local.resource_group_name
  location                      = module.names.location
  existing_environment_id       = var.existing_container_app_environment_id
  infrastructure_subnet_id      = local.container_apps_subnet_id
  virtual_network_id            = local.virtual_network_id
  internal                      = local.network_isolation && !var.expose_gateway_public
  zone_redundancy_enabled       = var.zone_redundancy_enabled
  ingress_idle_timeout_minutes  = var.ingress_idle_timeout_minutes
  ingress_workload_profile_type = var.ingress_workload_profile_type
  ingress_maximum_nodes         = var.ingress_maximum_nodes
  log_analytics_workspace_id    = var.log_analytics_workspace_id
  tags                          = local.tags
}

resource "azurerm_private_endpoint" "key_vault" {
  count = local.network_isolation ? 1 : 0

  name                = "pep-kv-${module.names.suffix}"
  resource_group_name = local.resource_group_name
  location            = module.names.location
  subnet_id           = local.private_endpoints_subnet_id
  tags                = local.tags

  private_service_connection {
    name                           = "key-vault"
    private_connection_resource_id = local.key_vault_id
    subresource_names              = ["vault"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [local.private_dns_zone_ids["key_vault"]]
  }
}

module "redis" {
  source = "../../modules/redis"
  count  = var.redis_kind == "none" ? 0 : 1

  kind                         = var.redis_kind
  name                         = local.redis_name
  resource_group_name          = local.resource_group_name
  resource_group_id            = local.resource_group_id
  location                     = module.names.location
  sku_name                     = var.redis_sku_name
  high_availability_enabled    = var.redis_high_availability_enabled
  image                        = var.redis_image
  container_app_environment_id = module.environment.id
  workload_profile_name        = var.workload_profile_name
  vault_identity_id            = local.vault_identity_id
  key_vault_id                 = local.key_vault_id
  key_vault_uri                = local.key_vault_uri
  secret_name                  = var.redis_secret_name
  secret_version               = var.redis_secret_version
  network_isolation            = local.network_isolation
  private_endpoint_subnet_id   = local.private_endpoints_subnet_id
  private_dns_zone_id          = lookup(local.private_dns_zone_ids, "redis", "")
  tags                         = local.tags
}

module "simulators" {
  source = "../../modules/simulators"
  count  = var.gateway_e2e_test_mode && var.simulator_image != "" ? 1 : 0

  name_suffix                  = module.names.suffix
  resource_group_name          = local.resource_group_name
  location                     = module.names.location
  container_app_environment_id = module.environment.id
  default_domain               = module.environment.default_domain
  workload_profile_name        = var.workload_profile_name
  image                        = var.simulator_image
  registry_id                  = local.registry_id
  registry_login_server        = local.registry_login_server
  vault_identity_id            = local.vault_identity_id
  key_vault_id                 = local.key_vault_id
  key_vault_uri                = local.key_vault_uri
  secret_version               = var.simulator_secret_version
  external_enabled             = local.external_enabled
  tags                         = local.tags

  # A replica reads the vault through this endpoint.
  depends_on = [azurerm_private_endpoint.key_vault]
}

check "test_mode" {
  assert {
    condition     = !var.gateway_e2e_test_mode || !can(regex("(?i)^(prod|prd|live)", var.environment_code))
    error_message = "gateway_e2e_test_mode is true in the environment ${var.environment_code}. With it any client can move the requests of others to other backends. Never use it in production."
  }
}

module "app_insights_secret" {
  source = "../../modules/vault-secret"
  count  = var.app_insights_id == "" ? 0 : 1

  name          = "applicationinsights-connection-string"
  key_vault_id  = local.key_vault_id
  resource_type = "Microsoft.Insights/components@2020-02-02"
  resource_id   = var.app_insights_id
  value_path    = "properties.ConnectionString"
  value_version = var.app_insights_secret_version
  tags          = local.tags
}

module "gateway" {
  source = "../../modules/gateway"

  name                             = local.gateway_name
  identity_name                    = var.gateway_identity_name_override != "" ? var.gateway_identity_name_override : "id-gw-${module.names.suffix}"
  resource_group_name              = local.resource_group_name
  location                         = module.names.location
  environment_code                 = var.environment_code
  container_app_environment_id     = module.environment.id
  workload_profile_name            = var.workload_profile_name
  image                            = var.gateway_image
  registry_id                      = local.registry_id
  registry_login_server            = local.registry_login_server
  vault_identity_id                = local.vault_identity_id
  key_vault_uri                    = local.key_vault_uri
  backends                         = local.backends
  simulators                       = length(module.simulators) == 0 ? null : { backends = [for name in ["ptu-backend-1", "payg-backend-1", "payg-backend-2"] : { name = name, endpoint = module.simulators[0].urls[name] }], secret_name = module.simulators[0].secret_name }
  app_settings                     = local.app_settings
  secret_settings                  = local.secret_settings
  secrets_revision                 = var.secrets_revision
  app_insights_secret_name         = var.app_insights_id == "" ? "" : module.app_insights_secret[0].name
  redis                            = var.redis_kind == "none" ? null : { host = module.redis[0].host, port = module.redis[0].port, tls = module.redis[0].tls, secret_name = module.redis[0].secret_name }
  log_mode                         = var.gateway_log_mode
  logs_ingest_uri                  = var.gateway_log_ingest_uri
  logs_dcr_id                      = var.gateway_log_ingest_dcr_id
  prometheus_endpoint              = var.azure_monitor_prometheus_endpoint
  prometheus_dcr_id                = var.azure_monitor_prometheus_dcr_id
  external_enabled                 = local.external_enabled
  trusted_proxies                  = local.trusted_proxies
  ingress_idle_timeout_minutes     = var.ingress_idle_timeout_minutes
  cpu                              = var.gateway_cpu
  memory                           = var.gateway_memory
  otel_collector_image             = var.otel_collector_image
  otel_collector_cpu               = var.otel_collector_cpu
  otel_collector_memory            = var.otel_collector_memory
  min_replicas                     = var.gateway_min_replicas
  max_replicas                     = var.gateway_max_replicas
  http_concurrency                 = var.gateway_http_concurrency
  cpu_scale_threshold              = var.gateway_cpu_scale_threshold
  termination_grace_period_seconds = var.termination_grace_period_seconds
  max_inactive_revisions           = var.max_inactive_revisions
  tags                             = local.tags

  # A replica reads the vault through this endpoint.
  depends_on = [azurerm_private_endpoint.key_vault]
}

module "alerts" {
  source = "../../modules/alerts"

  enabled                                  = var.enable_alerts
  resource_group_name                      = local.resource_group_name
  location                                 = module.names.location
  name_suffix                              = module.names.suffix
  azure_monitor_workspace_id               = var.azure_monitor_workspace_id == "" ? null : var.azure_monitor_workspace_id
  cluster_name                             = lookup(local.app_settings, "CLUSTER_NAME", local.gateway_name)
  log_analytics_workspace_id               = var.gateway_log_ingest_uri == "" || var.log_analytics_workspace_id == "" ? null : var.log_analytics_workspace_id
  log_table_name                           = var.gateway_log_table_name
  gateway_id                               = lookup(local.app_settings, "APIM_GATEWAY_ID", local.gateway_name)
  alert_action_group_id                    = var.alert_action_group_id
  alert_email_receivers                    = var.alert_email_receivers
  alert_webhook_receivers                  = var.alert_webhook_receivers
  disabled_metric_alerts                   = var.disabled_metric_alerts
  alert_severities                         = var.alert_severities
  alert_unserved_budget_percent            = var.alert_unserved_budget_percent
  alert_first_token_p95_threshold_ms       = var.alert_first_token_p95_threshold_ms
  alert_failover_threshold_percent         = var.alert_failover_threshold_percent
  alert_authentication_failures_per_second = var.alert_authentication_failures_per_second
  alert_minimum_requests                   = var.alert_minimum_requests
  alert_5xx_threshold_percent              = var.alert_5xx_threshold_percent
  alert_429_threshold_percent              = var.alert_429_threshold_percent
  alert_latency_p95_threshold_ms           = var.alert_latency_p95_threshold_ms
  alert_no_traffic_window                  = var.alert_no_traffic_window
  tags                                     = local.tags
}

moved {
  from = module.alerts[0]
  to   = module.alerts
}
