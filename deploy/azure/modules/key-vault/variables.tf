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

variable "tenant_id" {
  description = "The Entra tenant of the vault."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-fA-F-]{36}$", var.tenant_id))
    error_message = "tenant_id is not a GUID. Write the id that `az account show --query tenantId` prints."
  }
}

variable "existing_key_vault_id" {
  description = "A Key Vault that exists, with Azure RBAC. Null: the module makes one."
  type        = string
  default     = null

  validation {
    condition     = var.existing_key_vault_id == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.KeyVault/vaults/[^/]+$", var.existing_key_vault_id))
    error_message = "existing_key_vault_id is not the resource id of a vault. Write /subscriptions/…/providers/Microsoft.KeyVault/vaults/<name>, or leave it out."
  }
}

variable "name" {
  description = "The name of the vault that the module makes."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z](-?[A-Za-z0-9]){2,23}$", var.name)) && length(var.name) <= 24
    error_message = "The vault's name is not valid. Write 3 to 24 letters, digits and single hyphens, a letter first."
  }
}

variable "identity_name" {
  description = "The name of the identity that reads secrets."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][-\\w]{2,127}$", var.identity_name))
    error_message = "identity_name is not valid. Write 3 to 128 letters, digits, hyphens and underscores."
  }
}

variable "purge_protection_enabled" {
  description = "Whether deleted secrets and the deleted vault stay restorable against everyone. It cannot be turned off again."
  type        = bool
  default     = true
  nullable    = false
}

variable "soft_delete_retention_days" {
  description = "For how many days what was deleted can be restored. It cannot be changed later."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.soft_delete_retention_days >= 7 && var.soft_delete_retention_days <= 90
    error_message = "soft_delete_retention_days is not valid. Write 7 to 90."
  }
}

variable "public_network_access_enabled" {
  description = "Whether the vault can be reached from public networks. False needs a private endpoint."
  type        = bool
  default     = true
  nullable    = false
}

variable "allowed_ip_ranges" {
  description = "Public IPv4 addresses or CIDR ranges that may reach the vault. With an entry here all others are refused, also Container Apps that are not in a network with access. Empty, and no allowed_subnet_ids: every address may, with an Entra token that has a role."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.allowed_ip_ranges : can(regex("^(\\d{1,3}\\.){3}\\d{1,3}(/\\d{1,2})?$", each))])
    error_message = "allowed_ip_ranges has an entry that is not valid. Write IPv4 addresses or CIDR ranges."
  }
}

variable "allowed_subnet_ids" {
  description = "Subnets with the service endpoint Microsoft.KeyVault that may reach the vault."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.allowed_subnet_ids : can(regex("(?i)/subnets/[^/]+$", each))])
    error_message = "allowed_subnet_ids has an entry that is not the resource id of a subnet."
  }
}

variable "secrets_officer_principal_ids" {
  description = "Object ids of the principals that put secrets into the vault, each with the role Key Vault Secrets Officer on this vault."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.secrets_officer_principal_ids : can(regex("^[0-9a-fA-F-]{36}$", each))])
    error_message = "secrets_officer_principal_ids has an entry that is not an object id. Write GUIDs."
  }
}

variable "private_endpoint" {
  description = "A private endpoint for the vault: its subnet, and the id of the zone privatelink.vaultcore.azure.net. Null: none."
  type = object({
    name                = string
    subnet_id           = string
    private_dns_zone_id = string
  })
  default = null

  validation {
    condition     = var.private_endpoint == null || try(can(regex("(?i)/subnets/[^/]+$", var.private_endpoint.subnet_id)) && can(regex("(?i)/privateDnsZones/[^/]+$", var.private_endpoint.private_dns_zone_id)), false)
    error_message = "private_endpoint is not complete. Write the resource ids of a subnet and of the private DNS zone privatelink.vaultcore.azure.net."
  }
}

variable "log_analytics_workspace_id" {
  description = "Where access to the vault is logged. Null: nowhere."
  type        = string
  default     = null

  validation {
    condition     = var.log_analytics_workspace_id == null || can(regex("(?i)/providers/Microsoft.OperationalInsights/workspaces/[^/]+$", var.log_analytics_workspace_id))
    error_message = "log_analytics_workspace_id is not the resource id of a workspace. Write /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/<name>, or leave it out."
  }
}
