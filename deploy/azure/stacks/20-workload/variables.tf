variable "subscription_id" {
  description = "The subscription."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.subscription_id))
    error_message = "subscription_id is not a GUID. Write the id that `az account show --query id` prints."
  }
}

variable "tenant_id" {
  description = "The tenant of Entra ID."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.tenant_id))
    error_message = "tenant_id is not a GUID. Write the id that `az account show --query tenantId` prints."
  }
}

variable "environment_code" {
  description = "The environment in names, for example dev or prod. The label `environment` of metrics and traces."
  type        = string
}

variable "location" {
  description = "Region of the gateway."
  type        = string
}

variable "workload_name" {
  description = "What the deployment is called in names."
  type        = string
  default     = "apisix"
  nullable    = false
}

variable "identifier" {
  description = "Distinguishes several deployments of one workload and environment. Empty: none."
  type        = string
  default     = ""
  nullable    = false
}

# ---- What other stacks made: from their state, or written here, which wins ----

variable "state_resource_group_name" {
  description = "Resource group of the storage account with the states."
  type        = string
  default     = ""
  nullable    = false
}

variable "state_storage_account_name" {
  description = "Storage account with the states of the other stacks. Empty: this stack reads no state, and all that it needs stands in variables."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z0-9]{3,24})?$", var.state_storage_account_name))
    error_message = "state_storage_account_name is not the name of a storage account. Write the output storage_account_name of 00-bootstrap, or nothing."
  }
}

variable "state_container_name" {
  description = "Container with the states."
  type        = string
  default     = "tfstate"
  nullable    = false
}

variable "foundation_state_blob_key" {
  description = "State of the stack 10-platform, for example dev/10-platform.tfstate."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.foundation_state_blob_key == "" || !can(regex("^/|<", var.foundation_state_blob_key))
    error_message = "foundation_state_blob_key is not the key of a state. Write the key in the backend.hcl of 10-platform, for example dev/10-platform.tfstate, or nothing."
  }
}

variable "openai_state_blob_key" {
  description = "State of the stack 15-foundry, for example dev/15-foundry.tfstate. It is read with use_provisioned_azure_openai."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.openai_state_blob_key == "" || !can(regex("^/|<", var.openai_state_blob_key))
    error_message = "openai_state_blob_key is not the key of a state. Write the key in the backend.hcl of 15-foundry, for example dev/15-foundry.tfstate, or nothing."
  }
}

variable "use_provisioned_azure_openai" {
  description = "Make backends of the accounts of 15-foundry, and run in its virtual network if it has one."
  type        = bool
  default     = false
  nullable    = false
}

variable "azure_openai_backends" {
  description = "Accounts that become backends with Entra ID, instead of those of 15-foundry. The gateway's identity gets the role Cognitive Services OpenAI User on each."
  type = list(object({
    name        = string
    endpoint    = string
    location    = string
    priority    = optional(number, 5)
    weight      = optional(number, 1)
    deployments = optional(list(string), [])
    resource_id = string
  }))
  default  = []
  nullable = false

  validation {
    condition     = length(distinct(var.azure_openai_backends[*].name)) == length(var.azure_openai_backends)
    error_message = "Two entries of azure_openai_backends have the same name. Give each its own."
  }
}

variable "platform_resource_group_name" {
  description = "Resource group of registry and vault, if they are named and not given by ID."
  type        = string
  default     = ""
  nullable    = false
}

variable "platform_acr_name" {
  description = "Name of the container registry."
  type        = string
  default     = ""
  nullable    = false
}

variable "platform_acr_id" {
  description = "Resource ID of an existing container registry, in any group."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.platform_acr_id == "" || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.ContainerRegistry/registries/[^/]+$", var.platform_acr_id))
    error_message = "platform_acr_id is not the resource ID of a container registry. Write /subscriptions/…/providers/Microsoft.ContainerRegistry/registries/NAME, or nothing."
  }
}

variable "platform_acr_login_server" {
  description = "Host name of the registry, if it is not NAME.azurecr.io."
  type        = string
  default     = ""
  nullable    = false
}

variable "key_vault_name" {
  description = "Name of the vault with the secrets."
  type        = string
  default     = ""
  nullable    = false
}

variable "key_vault_id" {
  description = "Resource ID of an existing vault, in any group."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.key_vault_id == "" || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.KeyVault/vaults/[^/]+$", var.key_vault_id))
    error_message = "key_vault_id is not the resource ID of a vault. Write /subscriptions/…/providers/Microsoft.KeyVault/vaults/NAME, or nothing."
  }
}

variable "key_vault_uri" {
  description = "URI of the vault, if it is not https://NAME.vault.azure.net/."
  type        = string
  default     = ""
  nullable    = false
}

variable "aca_managed_identity_id" {
  description = "User-assigned identity that reads secrets of the vault: the output of that name of 10-platform."
  type        = string
  default     = ""
  nullable    = false
}

variable "virtual_network_id" {
  description = "Virtual network of the gateway. Empty: that of 15-foundry, or none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.virtual_network_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Network/virtualNetworks/[^/]+$", var.virtual_network_id))
    error_message = "virtual_network_id is not the resource ID of a virtual network. Write /subscriptions/…/providers/Microsoft.Network/virtualNetworks/NAME, or nothing."
  }
}

variable "container_apps_subnet_id" {
  description = "Subnet of the Container Apps environment. Empty: that of 15-foundry, or none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.container_apps_subnet_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Network/virtualNetworks/[^/]+/subnets/[^/]+$", var.container_apps_subnet_id))
    error_message = "container_apps_subnet_id is not the resource ID of a subnet. Write /subscriptions/…/providers/Microsoft.Network/virtualNetworks/NAME/subnets/NAME, or nothing."
  }
}

variable "container_apps_subnet_prefix" {
  description = "Address range of that subnet, whose X-Forwarded-For the gateway believes. Empty: that of 15-foundry, or none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.container_apps_subnet_prefix == "" || can(cidrhost(var.container_apps_subnet_prefix, 0))
    error_message = "container_apps_subnet_prefix is not an address range. Write for example 10.60.0.0/23, or nothing."
  }
}

variable "private_endpoints_subnet_id" {
  description = "Subnet of the private endpoints. Empty: that of 15-foundry, or none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.private_endpoints_subnet_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Network/virtualNetworks/[^/]+/subnets/[^/]+$", var.private_endpoints_subnet_id))
    error_message = "private_endpoints_subnet_id is not the resource ID of a subnet. Write /subscriptions/…/providers/Microsoft.Network/virtualNetworks/NAME/subnets/NAME, or nothing."
  }
}

variable "private_dns_zone_ids" {
  description = "Private DNS zones, by the keys key_vault and redis. Empty: those of 15-foundry."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for id in values(var.private_dns_zone_ids) : can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Network/privateDnsZones/[^/]+$", id))])
    error_message = "private_dns_zone_ids has something that is not the resource ID of a private DNS zone. Write /subscriptions/…/providers/Microsoft.Network/privateDnsZones/NAME."
  }
}

variable "existing_container_app_environment_id" {
  description = "Container Apps environment to use. Empty: one is made. Terraform changes nothing of an existing one."
  type        = string
  default     = ""
  nullable    = false
}

variable "workload_profile_name" {
  description = "Workload profile of the containers. null: the environment is an existing one without profiles."
  type        = string
  default     = "Consumption"
}

# ---- Settings of the gateway ----
# Neither of the first two is a secret. But for a value of a wrong type Terraform prints the lines of the tfvars file, and
# somebody may have written a secret there; it prints none for what is called sensitive.

variable "app_settings" {
  description = "Settings of the gateway that are not secret: docs/settings.md. With provisioned backends, backends of your own have the indexes after them."
  type        = map(string)
  default     = {}
  nullable    = false
  sensitive   = true
}

variable "secret_settings" {
  description = "Names of the secret settings, such as GATEWAY_CLIENT_KEY_0. Their values are in the vault under the same name in lower case with hyphens: gateway-client-key-0."
  type        = set(string)
  default     = []
  nullable    = false
  sensitive   = true
}

variable "secrets_revision" {
  description = "Change it to start a new revision with the present secrets of the vault at once. Empty: Container Apps takes new values within half an hour."
  type        = string
  default     = ""
}

# tflint-ignore: terraform_unused_declarations # It only refuses what no longer works.
variable "secrets" {
  description = "Must be empty. The accelerator had the values of secrets here; they would be in files and plans."
  type        = map(string)
  default     = {}
  nullable    = false
  sensitive   = true
}

variable "gateway_image" {
  description = "Image of the gateway, built from docker/Dockerfile, by digest or version."
  type        = string
}

variable "gateway_log_mode" {
  description = "Detail of logs and traces: prod, test or dev."
  type        = string
  default     = "prod"
  nullable    = false
}

variable "gateway_e2e_test_mode" {
  description = "Deploy three simulators of Azure OpenAI in place of accounts, and the pools of the toolkit's scenarios: docs/toolkit.md. Never in production."
  type        = bool
  default     = false
  nullable    = false
}

variable "simulator_image" {
  description = "Image of microsoft/aoai-api-simulator 0.5 for gateway_e2e_test_mode, by digest or version."
  type        = string
  default     = ""
  nullable    = false
}

variable "simulator_secret_version" {
  description = "Increase it to write a new key of the simulators into the vault."
  type        = number
  default     = 1
  nullable    = false
}

variable "expose_gateway_public" {
  description = "Let the Internet reach the gateway. false: only the virtual network, or without one only other apps of the environment."
  type        = bool
  default     = true
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations # It only refuses what no longer works.
variable "gateway_target_port" {
  description = "Must be 9080, the gateway's port."
  type        = number
  default     = 9080
  nullable    = false

  validation {
    condition     = var.gateway_target_port == 9080
    error_message = "gateway_target_port is not 9080. The gateway listens on 9080 only: leave the variable out."
  }
}

variable "gateway_trusted_proxies" {
  description = "Addresses whose X-Forwarded-For the gateway believes. Empty: those of the ingress. With a proxy in front of the ingress, such as Front Door, write the ingress's ranges and the proxy's."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "gateway_cpu" {
  description = "Processors of the gateway's container."
  type        = number
  default     = 1
  nullable    = false
}

variable "gateway_memory" {
  description = "Memory of the gateway's container: 2 Gi for each processor."
  type        = string
  default     = "2Gi"
  nullable    = false
}

variable "gateway_http_concurrency" {
  description = "Simultaneous requests of a replica above which another replica starts."
  type        = number
  default     = 60
  nullable    = false
}

variable "gateway_cpu_scale_threshold" {
  description = "Percentage of the processors above which another replica starts. null: no such rule, as scaling to zero needs."
  type        = number
  default     = 70
}

variable "gateway_min_replicas" {
  description = "Smallest number of replicas. 0 needs gateway_cpu_scale_threshold = null."
  type        = number
  default     = 2
  nullable    = false
}

variable "gateway_max_replicas" {
  description = "Largest number of replicas."
  type        = number
  default     = 20
  nullable    = false
}

variable "termination_grace_period_seconds" {
  description = "How long a replica may serve running requests before it is killed: 250 to 600."
  type        = number
  default     = 260
  nullable    = false
}

variable "max_inactive_revisions" {
  description = "How many earlier revisions Azure keeps. A rollback needs one."
  type        = number
  default     = 10
  nullable    = false
}

variable "zone_redundancy_enabled" {
  description = "Spread the environment over the region's zones. It needs the virtual network, and cannot be changed later."
  type        = bool
  default     = false
  nullable    = false
}

variable "ingress_idle_timeout_minutes" {
  description = "After how many minutes without a byte the ingress ends a request: 4 to 30. More than 4 needs nodes of its own (premium ingress), which cost money all the time. Streams get a heartbeat after a quarter of this time; a request without a stream must answer within it."
  type        = number
  default     = 4
  nullable    = false
}

variable "ingress_workload_profile_type" {
  description = "Size of the nodes of the premium ingress."
  type        = string
  default     = "D4"
  nullable    = false
}

variable "ingress_maximum_nodes" {
  description = "Largest number of nodes of the premium ingress, 2 or more."
  type        = number
  default     = 2
  nullable    = false
}

# ---- Redis ----

variable "redis_kind" {
  description = "managed: Azure Managed Redis. container: a Container App without TLS and persistence, for test environments. none: each replica remembers and counts for itself, or app_settings names a Redis of yours."
  type        = string
  default     = "managed"
  nullable    = false

  validation {
    condition     = contains(["managed", "container", "none"], var.redis_kind)
    error_message = "redis_kind is unknown. Write managed, container or none."
  }
}

variable "redis_sku_name" {
  description = "Size of Azure Managed Redis."
  type        = string
  default     = "Balanced_B0"
  nullable    = false
}

variable "redis_high_availability_enabled" {
  description = "Run a second node of Azure Managed Redis. It doubles the price."
  type        = bool
  default     = true
  nullable    = false
}

variable "redis_image" {
  description = "Image of the container, by digest or version."
  type        = string
  default     = "docker.io/library/redis:8.6.0-alpine3.23"
  nullable    = false
}

variable "redis_secret_name" {
  description = "Name of the password in the vault. Another one is needed if the vault has a secret of this name already, such as that of a gateway of the accelerator."
  type        = string
  default     = "responses-affinity-redis-password"

  validation {
    condition     = can(regex("^[0-9a-z-]{1,127}$", var.redis_secret_name))
    error_message = "redis_secret_name is not the name of a secret. Write 1 to 127 lower-case letters, digits and hyphens."
  }
}

variable "redis_secret_version" {
  description = "Increase it to write the password into the vault again: a new one for the container, the present primary key of Azure Managed Redis."
  type        = number
  default     = 1
  nullable    = false
}

# ---- Observability: outputs of the stack 05-observability ----

variable "log_analytics_workspace_id" {
  description = "Log Analytics workspace for the logs of the containers, and for the alerts on records. Empty: logs are streamed only."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.log_analytics_workspace_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.OperationalInsights/workspaces/[^/]+$", var.log_analytics_workspace_id))
    error_message = "log_analytics_workspace_id is not the resource ID of a Log Analytics workspace. Write /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/NAME, or nothing."
  }
}

variable "gateway_log_ingest_uri" {
  description = "Ingestion URI of APIM-style records: the output gateway_logs_ingest_uri. Empty: no records."
  type        = string
  default     = ""
  nullable    = false
}

variable "gateway_log_ingest_dcr_id" {
  description = "Data collection rule of the records: the output gateway_logs_dcr_id."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.gateway_log_ingest_dcr_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Insights/dataCollectionRules/[^/]+$", var.gateway_log_ingest_dcr_id))
    error_message = "gateway_log_ingest_dcr_id is not the resource ID of a data collection rule. Write /subscriptions/…/providers/Microsoft.Insights/dataCollectionRules/NAME, or nothing."
  }
}

variable "gateway_log_table_name" {
  description = "Table of the records."
  type        = string
  default     = "APISIXGatewayLogs_CL"
  nullable    = false
}

variable "azure_monitor_workspace_id" {
  description = "Azure Monitor workspace, for the alerts on metrics. Empty: no such alerts."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.azure_monitor_workspace_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Monitor/accounts/[^/]+$", var.azure_monitor_workspace_id))
    error_message = "azure_monitor_workspace_id is not the resource ID of an Azure Monitor workspace. Write /subscriptions/…/providers/Microsoft.Monitor/accounts/NAME, or nothing."
  }
}

variable "azure_monitor_prometheus_endpoint" {
  description = "Remote write endpoint of the workspace: the output azure_monitor_prometheus_remote_write_endpoint. Empty: no metrics are exported."
  type        = string
  default     = ""
  nullable    = false
}

variable "azure_monitor_prometheus_query_endpoint" {
  description = "Query endpoint of the workspace, which this stack only passes on to its output."
  type        = string
  default     = ""
  nullable    = false
}

variable "azure_monitor_prometheus_dcr_id" {
  description = "Data collection rule of the workspace: the output azure_monitor_prometheus_dcr_id."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.azure_monitor_prometheus_dcr_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Insights/dataCollectionRules/[^/]+$", var.azure_monitor_prometheus_dcr_id))
    error_message = "azure_monitor_prometheus_dcr_id is not the resource ID of a data collection rule. Write /subscriptions/…/providers/Microsoft.Insights/dataCollectionRules/NAME, or nothing."
  }
}

variable "app_insights_id" {
  description = "Application Insights for traces and logs: the output app_insights_id. Its connection string goes into the vault, and not into this stack's state."
  type        = string
  default     = ""
  nullable    = false
}

variable "app_insights_secret_version" {
  description = "Increase it to write the connection string into the vault again."
  type        = number
  default     = 1
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations # It only refuses what no longer works.
variable "app_insights_connection_string" {
  description = "Must be empty. The accelerator had the connection string here; it would be in files and plans."
  type        = string
  default     = ""
  nullable    = false
  sensitive   = true
}

variable "otel_collector_image" {
  description = "Image of the OpenTelemetry collector's contrib distribution, 0.158 or later, by digest or version."
  type        = string
  default     = "docker.io/otel/opentelemetry-collector-contrib:0.162.0@sha256:39923a8e431bd1f57be82411999d389fcfe40857492e4365456d97a4c1f74be6"
  nullable    = false
}

variable "otel_collector_cpu" {
  description = "Processors of the collector."
  type        = number
  default     = 0.25
  nullable    = false
}

variable "otel_collector_memory" {
  description = "Memory of the collector: 2 Gi for each processor."
  type        = string
  default     = "0.5Gi"
  nullable    = false
}

# ---- Alerts: the module validates the values, also while there are none ----

variable "enable_alerts" {
  description = "Make the alert rules: on metrics with azure_monitor_workspace_id, on records with gateway_log_ingest_uri and log_analytics_workspace_id."
  type        = bool
  default     = false
  nullable    = false
}

variable "alert_action_group_id" {
  description = "An action group that exists, which all alerts notify. Empty: one is made from the receivers."
  type        = string
  default     = ""
  nullable    = false
}

variable "alert_email_receivers" {
  description = "Who gets mails."
  type        = list(object({ name = string, email = string }))
  default     = []
  nullable    = false
}

variable "alert_webhook_receivers" {
  description = "Addresses that are called. They are in the state: for one with a token in it, name an action group of yours in alert_action_group_id."
  type        = list(object({ name = string, uri = string }))
  default     = []
  nullable    = false
  sensitive   = true
}

variable "disabled_metric_alerts" {
  description = "Names of alerts of examples/observability/alerts.yml that are not evaluated."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "alert_severities" {
  description = "Azure's severity, 0 to 4, for each severity of examples/observability/alerts.yml."
  type        = map(number)
  default     = { critical = 1, warning = 2 }
  nullable    = false
}

variable "alert_unserved_budget_percent" {
  description = "The share of requests that may go unserved, in percent, above 0 and below 7: the error budget of GatewayErrorBudgetBurnsFast and GatewayErrorBudgetBurnsSlowly."
  type        = number
  default     = 1
  nullable    = false
}

variable "alert_first_token_p95_threshold_ms" {
  description = "Above which time to the first token, of one stream in twenty, in milliseconds, GatewayFirstTokenSlow fires."
  type        = number
  default     = 10000
  nullable    = false
}

variable "alert_failover_threshold_percent" {
  description = "Above which share of answers after a failover, in percent, GatewayFailoverRatioHigh fires."
  type        = number
  default     = 20
  nullable    = false
}

variable "alert_authentication_failures_per_second" {
  description = "Above how many requests a second with a credential that is not valid GatewayAuthenticationFails fires."
  type        = number
  default     = 1
  nullable    = false
}

variable "alert_minimum_requests" {
  description = "With fewer requests in five minutes the alerts on shares and on latency of records stay silent."
  type        = number
  default     = 20
  nullable    = false
}

variable "alert_5xx_threshold_percent" {
  description = "Above which share of answers with 5xx, in percent, an alert fires."
  type        = number
  default     = 5
  nullable    = false
}

variable "alert_429_threshold_percent" {
  description = "Above which share of answers with 429, in percent, an alert fires."
  type        = number
  default     = 10
  nullable    = false
}

variable "alert_latency_p95_threshold_ms" {
  description = "Above which duration of one successful request in twenty, in milliseconds, an alert fires."
  type        = number
  default     = 5000
  nullable    = false
}

variable "alert_no_traffic_window" {
  description = "After how long without a request an alert fires, as PT1H. null: never."
  type        = string
  default     = "PT1H"
}

# ---- Names and tags ----

variable "existing_resource_group_id" {
  description = "Resource ID of a resource group to use. Null: one is made."
  type        = string
  default     = null

  validation {
    condition     = var.existing_resource_group_id == null || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.existing_resource_group_id))
    error_message = "existing_resource_group_id is not the resource ID of a resource group. Write /subscriptions/…/resourceGroups/NAME, or leave it out."
  }
}

variable "workload_rg_name_override" {
  description = "Name of the resource group. Empty: rg-…-workload."
  type        = string
  default     = ""
  nullable    = false
}

variable "aca_env_name_override" {
  description = "Name of the Container Apps environment. Empty: cae-…."
  type        = string
  default     = ""
  nullable    = false
}

variable "gateway_name_override" {
  description = "Name of the gateway's Container App. Empty: ca-gw-…."
  type        = string
  default     = ""
  nullable    = false
}

variable "gateway_identity_name_override" {
  description = "Name of the gateway's identity. Empty: id-gw-…."
  type        = string
  default     = ""
  nullable    = false
}

variable "redis_name_override" {
  description = "Name of the Redis. Empty: amr-… for Azure Managed Redis, ca-redis-… for the container."
  type        = string
  default     = ""
  nullable    = false
}

variable "tags" {
  description = "Further tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}

# ---- The accelerator's variable files have these. They are accepted and unused. ----

# tflint-ignore: terraform_unused_declarations
variable "hydrenv_image" {
  description = "Unused: the gateway's image renders the settings."
  type        = string
  default     = ""
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations
variable "log_retention_days" {
  description = "Unused: the stack 05-observability has the workspace and its retention."
  type        = number
  default     = 30
  nullable    = false
}
