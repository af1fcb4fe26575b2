variable "name" {
  description = "Name of the Container App."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", var.name)) && !strcontains(var.name, "--")
    error_message = "The name of the gateway is not valid for a Container App. Write at most 32 lower-case letters, digits and single hyphens, a letter first."
  }
}

variable "identity_name" {
  description = "Name of the gateway's identity."
  type        = string
}

variable "resource_group_name" {
  description = "Resource group of the gateway."
  type        = string
}

variable "location" {
  description = "Region of the gateway's identity."
  type        = string
}

variable "environment_code" {
  description = "The environment, a label of traces and metrics."
  type        = string
}

variable "container_app_environment_id" {
  description = "Resource ID of the Container Apps environment."
  type        = string
}

variable "workload_profile_name" {
  description = "Workload profile of the environment. null: the environment is an existing one without profiles."
  type        = string
  default     = "Consumption"
}

variable "image" {
  description = "Image of the gateway, by digest or version."
  type        = string

  validation {
    condition     = can(regex("^[^\\s]+(:[^:/\\s]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "gateway_image has no version. Write the image with a tag other than latest, or with a digest, for example myregistry.azurecr.io/genai-gateway:0.1.0."
  }
}

variable "registry_id" {
  description = "Resource ID of the container registry. Empty: the images are public."
  type        = string
  default     = ""
  nullable    = false
}

variable "registry_login_server" {
  description = "Host name of that registry, for example myregistry.azurecr.io."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = (var.registry_id == "") == (var.registry_login_server == "")
    error_message = "registry_id and registry_login_server belong together. Write both, or neither."
  }
}

variable "vault_identity_id" {
  description = "User-assigned identity that reads secrets of the vault."
  type        = string

  validation {
    condition     = can(regex("^/subscriptions/[^/]+/resource[gG]roups/[^/]+/providers/Microsoft\\.ManagedIdentity/userAssignedIdentities/[^/]+$", var.vault_identity_id))
    error_message = "aca_managed_identity_id is not the resource ID of a user-assigned identity. Write the output aca_managed_identity_id of the stack 10-platform."
  }
}

variable "key_vault_uri" {
  description = "URI of the vault, for example https://my-vault.vault.azure.net/."
  type        = string

  validation {
    condition     = can(regex("^https://[a-z0-9-]+\\.vault\\.(azure\\.net|usgovcloudapi\\.net|azure\\.cn)/?$", var.key_vault_uri))
    error_message = "key_vault_uri is not the URI of a vault. Write for example https://my-vault.vault.azure.net/."
  }
}

variable "backends" {
  description = "The Azure OpenAI accounts that Terraform provisions, in the order of their indexes."
  type = list(object({
    name        = string
    endpoint    = string
    location    = string
    priority    = number
    weight      = number
    deployments = optional(list(string), [])
    resource_id = string
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for backend in var.backends : can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.CognitiveServices/accounts/[^/]+$", backend.resource_id))])
    error_message = "A backend has a resource_id that is not that of an Azure OpenAI account. Write /subscriptions/…/providers/Microsoft.CognitiveServices/accounts/NAME."
  }
}

variable "simulators" {
  description = "Simulators that are the backends, in order, with the vault's secret that has their key: the test mode. null: none."
  type = object({
    backends    = list(object({ name = string, endpoint = string }))
    secret_name = string
  })
  default = null
}

variable "app_settings" {
  description = "Settings of the gateway that are not secret. They win over the settings that Terraform derives."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for name in keys(var.app_settings) : !anytrue([for pattern in local.secret_patterns : can(regex(pattern, name))])
    ])
    error_message = "app_settings has a secret. Put its value into the vault (az keyvault secret set), and its name into secret_settings."
  }
}

variable "secret_settings" {
  description = "Names of secret settings whose values are in the vault, such as GATEWAY_CLIENT_KEY_0. The vault's secret is called gateway-client-key-0."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.secret_settings : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "secret_settings has something that is not the name of a setting. Write names such as GATEWAY_CLIENT_KEY_0. Values do not belong here."
  }
}

variable "secrets_revision" {
  description = "A new value starts a new revision. Empty: none."
  type        = string
  default     = ""
}

variable "app_insights_secret_name" {
  description = "The vault's secret with the connection string of Application Insights. Empty: no traces and logs are exported there."
  type        = string
  default     = ""
  nullable    = false
}

variable "redis" {
  description = "The Redis for affinity and limits, and the vault's secret with its password. null: each replica counts for itself."
  type        = object({ host = string, port = number, tls = bool, secret_name = string })
  default     = null
}

variable "log_mode" {
  description = "Detail of logs and traces: prod, test or dev."
  type        = string
  default     = "prod"
  nullable    = false

  validation {
    condition     = contains(["prod", "test", "dev"], lower(var.log_mode))
    error_message = "gateway_log_mode is unknown. Write prod, test or dev."
  }
}

variable "logs_ingest_uri" {
  description = "Ingestion URI of the rule for APIM-style records. Empty: no records are sent."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.logs_ingest_uri == "" || (startswith(var.logs_ingest_uri, "https://") && var.logs_dcr_id != "")
    error_message = "gateway_log_ingest_uri must begin with https:// and needs gateway_log_ingest_dcr_id. Write both outputs of the stack 05-observability, or neither."
  }
}

variable "logs_dcr_id" {
  description = "Resource ID of that rule."
  type        = string
  default     = ""
  nullable    = false
}

variable "prometheus_endpoint" {
  description = "Ingestion endpoint of the Azure Monitor workspace. Empty: no metrics are exported."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.prometheus_endpoint == "" || (startswith(var.prometheus_endpoint, "https://") && var.prometheus_dcr_id != "")
    error_message = "azure_monitor_prometheus_endpoint must begin with https:// and needs azure_monitor_prometheus_dcr_id. Write both outputs of the stack 05-observability, or neither."
  }
}

variable "prometheus_dcr_id" {
  description = "Resource ID of the workspace's data collection rule."
  type        = string
  default     = ""
  nullable    = false
}

variable "external_enabled" {
  description = "Let requests in from outside the environment: from the Internet, or from the virtual network if the environment is internal."
  type        = bool
  default     = true
  nullable    = false
}

variable "trusted_proxies" {
  description = "Addresses of the ingress, whose X-Forwarded-For is believed."
  type        = list(string)
  # Container Apps gives its own components, the ingress among them, addresses of this shared range.
  default  = ["100.64.0.0/10"]
  nullable = false

  validation {
    condition     = length(var.trusted_proxies) > 0 && alltrue([for range in var.trusted_proxies : can(cidrhost(range, 0)) || can(cidrhost("${range}/32", 0))])
    error_message = "gateway_trusted_proxies is not a list of addresses and ranges. Write for example [\"100.64.0.0/10\"]."
  }
}

variable "ingress_idle_timeout_minutes" {
  description = "After how many minutes without a byte the ingress ends a request."
  type        = number
  default     = 4
  nullable    = false
}

variable "cpu" {
  description = "Processors of the gateway's container."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.cpu >= 0.5 && floor(var.cpu * 4) == var.cpu * 4 && var.cpu + var.otel_collector_cpu <= 4
    error_message = "gateway_cpu is not valid. Write a multiple of 0.25 from 0.5; with the collector's share it may be 4 at most."
  }
}

variable "memory" {
  description = "Memory of the gateway's container: 2 Gi for each processor."
  type        = string
  default     = "2Gi"
  nullable    = false

  validation {
    condition     = try(tonumber(trimsuffix(var.memory, "Gi")) == var.cpu * 2, false)
    error_message = "gateway_memory is not valid. The Consumption profile gives 2 Gi for each processor: write for example 2Gi with gateway_cpu = 1."
  }
}

variable "otel_collector_image" {
  description = "Image of the OpenTelemetry collector's contrib distribution, 0.158 or later."
  type        = string
  default     = "docker.io/otel/opentelemetry-collector-contrib:0.162.0@sha256:39923a8e431bd1f57be82411999d389fcfe40857492e4365456d97a4c1f74be6"
  nullable    = false

  validation {
    condition     = can(regex("^[^\\s]+(:[^:/\\s]+|@sha256:[0-9a-f]{64})$", var.otel_collector_image)) && !can(regex(":0\\.1([0-4][0-9]|5[0-7])\\.", var.otel_collector_image))
    error_message = "otel_collector_image has no version, or one before 0.158, which cannot read the file. Write an image of 0.158 or later."
  }
}

variable "otel_collector_cpu" {
  description = "Processors of the collector."
  type        = number
  default     = 0.25
  nullable    = false

  validation {
    condition     = var.otel_collector_cpu >= 0.25 && floor(var.otel_collector_cpu * 4) == var.otel_collector_cpu * 4
    error_message = "otel_collector_cpu is not valid. Write a multiple of 0.25."
  }
}

variable "otel_collector_memory" {
  description = "Memory of the collector: 2 Gi for each processor."
  type        = string
  default     = "0.5Gi"
  nullable    = false

  validation {
    condition     = try(tonumber(trimsuffix(var.otel_collector_memory, "Gi")) == var.otel_collector_cpu * 2, false)
    error_message = "otel_collector_memory is not valid. The Consumption profile gives 2 Gi for each processor: write for example 0.5Gi with otel_collector_cpu = 0.25."
  }
}

variable "min_replicas" {
  description = "Smallest number of replicas. 0 needs cpu_scale_threshold = null."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.min_replicas >= 0 && floor(var.min_replicas) == var.min_replicas
    error_message = "gateway_min_replicas is not valid. Write a whole number, 0 or more."
  }

  validation {
    condition     = var.min_replicas > 0 || var.cpu_scale_threshold == null
    error_message = "A rule on processors needs a replica to measure, so nothing would start the first one again. Set gateway_cpu_scale_threshold = null to scale to zero, or gateway_min_replicas to 1 or more."
  }
}

variable "max_replicas" {
  description = "Largest number of replicas."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.max_replicas >= max(1, var.min_replicas) && var.max_replicas <= 1000 && floor(var.max_replicas) == var.max_replicas
    error_message = "gateway_max_replicas is not valid. Write a whole number from gateway_min_replicas to 1000."
  }
}

variable "http_concurrency" {
  description = "Simultaneous requests of a replica above which another replica starts."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.http_concurrency >= 1 && var.http_concurrency <= 1000 && floor(var.http_concurrency) == var.http_concurrency
    error_message = "gateway_http_concurrency is not valid. Write a whole number from 1 to 1000."
  }
}

variable "cpu_scale_threshold" {
  description = "Percentage of the processors above which another replica starts. null: no such rule."
  type        = number
  default     = 70

  validation {
    condition     = var.cpu_scale_threshold == null || try(var.cpu_scale_threshold >= 1 && var.cpu_scale_threshold <= 100, false)
    error_message = "gateway_cpu_scale_threshold is not valid. Write a percentage from 1 to 100, or null for no rule on processors."
  }
}

variable "termination_grace_period_seconds" {
  description = "How long a replica may serve running requests before it is killed."
  type        = number
  default     = 260
  nullable    = false

  validation {
    condition     = var.termination_grace_period_seconds >= 250 && var.termination_grace_period_seconds <= 600
    error_message = "termination_grace_period_seconds is not valid. Write 250 to 600: the gateway serves running requests for up to 240 seconds."
  }
}

variable "max_inactive_revisions" {
  description = "How many earlier revisions Azure keeps. A rollback needs one."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_inactive_revisions >= 1 && var.max_inactive_revisions <= 100
    error_message = "max_inactive_revisions is not valid. Write 1 to 100."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
