variable "resource_group_name" {
  description = "Resource group of the network."
  type        = string
}

variable "location" {
  description = "Region of the network."
  type        = string
}

variable "virtual_network_name" {
  description = "Name of the virtual network."
  type        = string
}

variable "address_space" {
  description = "Address ranges of the virtual network."
  type        = list(string)
  default     = ["10.60.0.0/22"]
  nullable    = false

  validation {
    condition     = length(var.address_space) > 0 && alltrue([for range in var.address_space : can(cidrhost(range, 0))])
    error_message = "address_space is not a list of address ranges. Write for example [\"10.60.0.0/22\"]."
  }
}

variable "container_apps_subnet_prefix" {
  description = "Address range of the Container Apps environment: /27 or larger. Azure cannot enlarge it later."
  type        = string
  default     = "10.60.0.0/23"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.container_apps_subnet_prefix, 0)) && try(tonumber(split("/", var.container_apps_subnet_prefix)[1]) <= 27, false)
    error_message = "container_apps_subnet_prefix is not an address range of /27 or larger. Write for example 10.60.0.0/23."
  }
}

variable "private_endpoints_subnet_prefix" {
  description = "Address range of the private endpoints."
  type        = string
  default     = "10.60.2.0/26"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.private_endpoints_subnet_prefix, 0))
    error_message = "private_endpoints_subnet_prefix is not an address range. Write for example 10.60.2.0/26."
  }
}

variable "client_address_prefixes" {
  description = "Where clients outside the virtual network may come from: address ranges, or one service tag such as Internet. Empty: from nowhere."
  type        = list(string)
  default     = ["Internet"]
  nullable    = false

  validation {
    condition     = length(var.client_address_prefixes) == 1 || alltrue([for range in var.client_address_prefixes : can(cidrhost(range, 0))])
    error_message = "client_address_prefixes mixes service tags and address ranges. Write address ranges, or one service tag alone."
  }
}

variable "private_dns_zone_names" {
  description = "Private DNS zones by what they are for. The sovereign clouds have other names."
  type        = map(string)
  default = {
    openai             = "privatelink.openai.azure.com"
    cognitive_services = "privatelink.cognitiveservices.azure.com"
    ai_services        = "privatelink.services.ai.azure.com"
    key_vault          = "privatelink.vaultcore.azure.net"
    redis              = "privatelink.redis.azure.net"
  }
  nullable = false

  validation {
    condition     = alltrue([for key in ["openai", "cognitive_services", "ai_services", "key_vault", "redis"] : contains(keys(var.private_dns_zone_names), key)])
    error_message = "private_dns_zone_names lacks a zone. Write one for each of openai, cognitive_services, ai_services, key_vault and redis."
  }
}

variable "existing_virtual_network_id" {
  description = "Resource ID of a virtual network to use. Empty: one is made."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.existing_virtual_network_id == "" || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Network/virtualNetworks/[^/]+$", var.existing_virtual_network_id))
    error_message = "existing_virtual_network_id is not the resource ID of a virtual network. Write /subscriptions/…/virtualNetworks/NAME, or nothing."
  }
}

variable "existing_container_apps_subnet_id" {
  description = "Subnet of that network for the Container Apps environment, delegated to Microsoft.App/environments."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = (var.existing_virtual_network_id == "") == (var.existing_container_apps_subnet_id == "")
    error_message = "existing_virtual_network_id and existing_container_apps_subnet_id belong together. Write both, or neither."
  }
}

variable "existing_private_endpoints_subnet_id" {
  description = "Subnet of that network for private endpoints."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = (var.existing_virtual_network_id == "") == (var.existing_private_endpoints_subnet_id == "")
    error_message = "existing_virtual_network_id and existing_private_endpoints_subnet_id belong together. Write both, or neither."
  }
}

variable "existing_private_dns_zone_ids" {
  description = "Private DNS zones to use, by the keys of private_dns_zone_names. They must be linked to the virtual network already."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.existing_private_dns_zone_ids) : contains(keys(var.private_dns_zone_names), key)])
    error_message = "existing_private_dns_zone_ids has an unknown key. Use the keys of private_dns_zone_names."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
