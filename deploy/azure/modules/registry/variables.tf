variable "resource_group_name" {
  description = "The resource group of the resources."
  type        = string

  validation {
    condition     = length(var.resource_group_name) > 0
    error_message = "resource_group_name is empty. Write the name of a resource group."
  }
}

variable "location" {
  description = "The Azure region."
  type        = string

  validation {
    condition     = length(var.location) > 0
    error_message = "location is empty. Write an Azure region, for example westeurope."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.tags) <= 50
    error_message = "tags has too many entries. Azure takes 50."
  }
}

variable "existing_registry_id" {
  description = "A container registry that exists. Null: the module makes one."
  type        = string
  default     = null

  validation {
    condition     = var.existing_registry_id == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.ContainerRegistry/registries/[^/]+$", var.existing_registry_id))
    error_message = "existing_registry_id is not the resource id of a registry. Write /subscriptions/…/providers/Microsoft.ContainerRegistry/registries/<name>, or leave it out."
  }
}

variable "name" {
  description = "The name of the registry that the module makes."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9]{5,50}$", var.name))
    error_message = "The registry's name is not valid. Write 5 to 50 letters and digits."
  }
}

variable "sku" {
  description = "The tier. Basic is enough for the gateway's image; a private endpoint needs Premium."
  type        = string
  default     = "Basic"
  nullable    = false

  validation {
    condition     = contains(["Basic", "Standard", "Premium"], title(lower(var.sku)))
    error_message = "The registry's tier is not valid. Write Basic, Standard or Premium."
  }
}

variable "public_network_access_enabled" {
  description = "Whether the registry can be reached from public networks. False needs Premium and a private endpoint."
  type        = bool
  default     = true
  nullable    = false
}

variable "push_principal_ids" {
  description = "Object ids of the principals that may push images, each with the role AcrPush on this registry."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.push_principal_ids : can(regex("^[0-9a-fA-F-]{36}$", each))])
    error_message = "push_principal_ids has an entry that is not an object id. Write GUIDs."
  }
}

variable "private_endpoint" {
  description = "A private endpoint for the registry: its subnet, and the id of the zone privatelink.azurecr.io. Null: none."
  type = object({
    name                = string
    subnet_id           = string
    private_dns_zone_id = string
  })
  default = null

  validation {
    condition     = var.private_endpoint == null || try(can(regex("(?i)/subnets/[^/]+$", var.private_endpoint.subnet_id)) && can(regex("(?i)/privateDnsZones/[^/]+$", var.private_endpoint.private_dns_zone_id)), false)
    error_message = "private_endpoint is not complete. Write the resource ids of a subnet and of the private DNS zone privatelink.azurecr.io."
  }
}

variable "log_analytics_workspace_id" {
  description = "Where the registry's logins and events are logged. Null: nowhere."
  type        = string
  default     = null

  validation {
    condition     = var.log_analytics_workspace_id == null || can(regex("(?i)/providers/Microsoft.OperationalInsights/workspaces/[^/]+$", var.log_analytics_workspace_id))
    error_message = "log_analytics_workspace_id is not the resource id of a workspace. Write /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/<name>, or leave it out."
  }
}
