variable "resource_group_name" {
  description = "Resource group of the accounts."
  type        = string
}

variable "instances" {
  description = "The accounts, by a name that becomes the name of the backend in the gateway's metrics and logs."
  type = map(object({
    account_name                  = string
    index                         = number
    location                      = string
    kind                          = string
    sku_name                      = string
    priority                      = number
    weight                        = number
    public_network_access_enabled = bool
    deployments = list(object({
      name                       = string
      model                      = object({ name = string, version = optional(string), format = optional(string, "OpenAI") })
      scale_type                 = optional(string, "Standard")
      capacity                   = optional(number, 1)
      dynamic_throttling_enabled = optional(bool, false)
      rai_policy_name            = optional(string)
      version_upgrade_option     = optional(string, "OnceNewDefaultVersionAvailable")
    }))
  }))

  validation {
    condition     = alltrue([for name in keys(var.instances) : can(regex("^[A-Za-z0-9._-]{1,100}$", name))])
    error_message = "An instance has a name that the gateway cannot use for a backend. Write 1 to 100 letters, digits, dots, hyphens and underscores."
  }

  validation {
    condition     = alltrue([for instance in values(var.instances) : can(regex("^[a-z0-9][a-z0-9-]{0,62}[a-z0-9]$", instance.account_name))])
    error_message = "The name of an account is not a host name. Write 2 to 64 lower-case letters, digits and hyphens, without a hyphen at the ends."
  }

  validation {
    condition     = alltrue([for instance in values(var.instances) : contains(["OpenAI", "AIServices"], instance.kind)])
    error_message = "An instance has an unknown kind. Write OpenAI or AIServices."
  }

  validation {
    condition     = alltrue([for instance in values(var.instances) : instance.priority >= 0 && instance.priority <= 1000000 && floor(instance.priority) == instance.priority])
    error_message = "The priority of an instance is not valid. Write a whole number from 0 to 1000000; backends with a higher number are tried first."
  }

  validation {
    condition     = alltrue([for instance in values(var.instances) : instance.weight >= 0 && instance.weight <= 10000 && floor(instance.weight) == instance.weight])
    error_message = "The weight of an instance is not valid. Write a whole number from 0 to 10000; 0 drains the backend."
  }

  validation {
    condition = alltrue([
      for instance in values(var.instances) : length(distinct(instance.deployments[*].name)) == length(instance.deployments)
    ])
    error_message = "Two deployments of one instance have the same name. Give each deployment its own name."
  }

  validation {
    condition     = alltrue(flatten([for instance in values(var.instances) : [for deployment in instance.deployments : deployment.capacity >= 1]]))
    error_message = "The capacity of a deployment is not valid. Write 1 or more: thousands of tokens a minute, or the number of PTUs."
  }
}

variable "local_auth_enabled" {
  description = "Accept keys of the accounts in addition to Entra ID. The gateway uses none. With true, the keys are in the Terraform state."
  type        = bool
  default     = false
  nullable    = false
}

variable "network_isolation" {
  description = "Make a private endpoint for each account."
  type        = bool
  default     = false
  nullable    = false
}

variable "private_endpoint_subnet_id" {
  description = "Subnet of the private endpoints. Required with network_isolation."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = !var.network_isolation || var.private_endpoint_subnet_id != ""
    error_message = "network_isolation needs private_endpoint_subnet_id. Write the resource ID of a subnet."
  }
}

variable "private_endpoint_location" {
  description = "Region of that subnet's virtual network. Required with network_isolation."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = !var.network_isolation || var.private_endpoint_location != ""
    error_message = "network_isolation needs private_endpoint_location. Write the region of the virtual network."
  }
}

variable "private_dns_zone_ids" {
  description = "Private DNS zones for the names of the accounts. Required with network_isolation."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = !var.network_isolation || length(var.private_dns_zone_ids) > 0
    error_message = "network_isolation needs private_dns_zone_ids. Without a zone the gateway resolves the accounts to public addresses."
  }
}

variable "endpoint_suffix" {
  description = "Domain of the endpoints: openai.azure.com, openai.azure.us or openai.azure.cn."
  type        = string
  default     = "openai.azure.com"
  nullable    = false

  validation {
    condition     = contains(["openai.azure.com", "openai.azure.us", "openai.azure.cn"], var.endpoint_suffix)
    error_message = "endpoint_suffix is unknown. Write openai.azure.com, openai.azure.us or openai.azure.cn."
  }
}

variable "log_analytics_workspace_id" {
  description = "Log Analytics workspace for audit logs and metrics of the accounts. Empty: none."
  type        = string
  default     = ""
  nullable    = false
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
