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
  description = "The environment in names, for example dev or prod."
  type        = string
}

variable "location" {
  description = "Region of the network, and of the accounts that name none."
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

variable "azure_openai_instances" {
  description = "Azure OpenAI accounts, in the order of their indexes among the gateway's backends. Later changes of the order change the indexes, so add new ones at the end."
  type = list(object({
    name_suffix                   = string
    account_name                  = optional(string)
    location                      = optional(string)
    kind                          = optional(string, "OpenAI")
    sku_name                      = optional(string, "S0")
    priority                      = optional(number, 5)
    weight                        = optional(number, 1)
    public_network_access_enabled = optional(bool)
    deployments = optional(list(object({
      name                       = string
      model                      = object({ name = string, version = optional(string), format = optional(string, "OpenAI") })
      scale_type                 = optional(string, "Standard")
      capacity                   = optional(number, 1)
      dynamic_throttling_enabled = optional(bool, false)
      rai_policy_name            = optional(string)
      version_upgrade_option     = optional(string, "OnceNewDefaultVersionAvailable")
    })), [])
  }))
  default  = []
  nullable = false

  validation {
    condition     = length(distinct(var.azure_openai_instances[*].name_suffix)) == length(var.azure_openai_instances)
    error_message = "Two entries of azure_openai_instances have the same name_suffix. Give each its own: it is the name of the backend in metrics and logs."
  }

  validation {
    condition     = alltrue([for instance in var.azure_openai_instances : can(regex("^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$", instance.name_suffix))])
    error_message = "A name_suffix of azure_openai_instances is not valid. Write 1 to 24 lower-case letters, digits and hyphens, without a hyphen at the ends."
  }
}

variable "azure_openai_network_isolation" {
  description = "Make a virtual network with private endpoints and private DNS zones, and close the accounts to the Internet. 20-workload then runs in this network."
  type        = bool
  default     = true
  nullable    = false
}

variable "azure_openai_custom_subdomain_prefix" {
  description = "Begins the names of the accounts, which are their host names. Empty: oai- and the usual suffix."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z0-9][a-z0-9-]{0,30})?$", var.azure_openai_custom_subdomain_prefix))
    error_message = "azure_openai_custom_subdomain_prefix is not valid. Write at most 31 lower-case letters, digits and hyphens, or nothing."
  }
}

variable "azure_openai_endpoint_suffix" {
  description = "Domain of the accounts' endpoints: openai.azure.com, openai.azure.us or openai.azure.cn."
  type        = string
  default     = "openai.azure.com"
  nullable    = false
}

variable "azure_openai_disable_local_auth" {
  description = "Accept no keys, only Entra ID. The gateway uses no keys of these accounts. With false, Azure's keys are in the state of this stack."
  type        = bool
  default     = true
  nullable    = false
}

variable "log_analytics_workspace_id" {
  description = "Workspace for audit logs and metrics of the accounts: the output log_analytics_workspace_id of 05-observability. Empty: none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.log_analytics_workspace_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.OperationalInsights/workspaces/[^/]+$", var.log_analytics_workspace_id))
    error_message = "log_analytics_workspace_id is not the resource ID of a Log Analytics workspace. Write /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/NAME, or nothing."
  }
}

variable "virtual_network_address_space" {
  description = "Address ranges of the virtual network."
  type        = list(string)
  default     = ["10.60.0.0/22"]
  nullable    = false
}

variable "container_apps_subnet_prefix" {
  description = "Address range of the Container Apps environment: /27 or larger. Azure cannot enlarge it later."
  type        = string
  default     = "10.60.0.0/23"
  nullable    = false
}

variable "private_endpoints_subnet_prefix" {
  description = "Address range of the private endpoints."
  type        = string
  default     = "10.60.2.0/26"
  nullable    = false
}

variable "client_address_prefixes" {
  description = "Where clients outside the virtual network may come from: address ranges, or one service tag such as Internet. Empty: from nowhere."
  type        = list(string)
  default     = ["Internet"]
  nullable    = false
}

variable "private_dns_zone_names" {
  description = "Private DNS zones by what they are for. Only the sovereign clouds have other names."
  type        = map(string)
  default = {
    openai             = "privatelink.openai.azure.com"
    cognitive_services = "privatelink.cognitiveservices.azure.com"
    ai_services        = "privatelink.services.ai.azure.com"
    key_vault          = "privatelink.vaultcore.azure.net"
    redis              = "privatelink.redis.azure.net"
  }
  nullable = false
}

variable "existing_virtual_network_id" {
  description = "Resource ID of a virtual network to use, in the region of this stack. Empty: one is made."
  type        = string
  default     = ""
  nullable    = false
}

variable "existing_container_apps_subnet_id" {
  description = "Subnet of that network for the Container Apps environment, delegated to Microsoft.App/environments."
  type        = string
  default     = ""
  nullable    = false
}

variable "existing_private_endpoints_subnet_id" {
  description = "Subnet of that network for private endpoints."
  type        = string
  default     = ""
  nullable    = false
}

variable "existing_private_dns_zone_ids" {
  description = "Private DNS zones to use, by the keys of private_dns_zone_names. They must be linked to the virtual network already."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "existing_resource_group_id" {
  description = "Resource ID of a resource group to use. Null: one is made."
  type        = string
  default     = null

  validation {
    condition     = var.existing_resource_group_id == null || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.existing_resource_group_id))
    error_message = "existing_resource_group_id is not the resource ID of a resource group. Write /subscriptions/…/resourceGroups/NAME, or leave it out."
  }
}

variable "foundry_rg_name_override" {
  description = "Name of the resource group. Empty: rg-…-foundry."
  type        = string
  default     = ""
  nullable    = false
}

variable "virtual_network_name_override" {
  description = "Name of the virtual network. Empty: vnet-…."
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

# ---- The accelerator's variable files have the next four. They are accepted and unused: the accounts have a resource group of
# their own, so this stack reads no other stack's state. ----

# tflint-ignore: terraform_unused_declarations
variable "remote_state_resource_group_name" {
  description = "Unused."
  type        = string
  default     = ""
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations
variable "remote_state_storage_account_name" {
  description = "Unused."
  type        = string
  default     = ""
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations
variable "remote_state_container_name" {
  description = "Unused."
  type        = string
  default     = ""
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations
variable "foundation_state_blob_key" {
  description = "Unused."
  type        = string
  default     = ""
  nullable    = false
}
