variable "existing_resource_group_id" {
  description = "A resource group that exists. Null: the module makes one, with the name of resource_group_name."
  type        = string
  default     = null

  validation {
    condition     = var.existing_resource_group_id == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.existing_resource_group_id))
    error_message = "existing_resource_group_id is not the id of a resource group. Write /subscriptions/<id>/resourceGroups/<name>, or leave it out."
  }
}

variable "resource_group_name" {
  description = "The name of the resource group that the module makes."
  type        = string

  validation {
    condition     = can(regex("^[-\\w.()]{1,89}[-\\w()]$", var.resource_group_name))
    error_message = "resource_group_name is not a name of a resource group. Write 2 to 90 letters, digits, hyphens, periods, underscores and parentheses, no period at the end."
  }
}

variable "location" {
  description = "The Azure region."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.location) > 0
    error_message = "location is empty. Write an Azure region, for example westeurope."
  }
}

variable "storage_account_name" {
  description = "The name of the storage account that holds Terraform's state."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.storage_account_name))
    error_message = "storage_account_name is not valid. Write 3 to 24 lower-case letters and digits."
  }
}

variable "container_name" {
  description = "The blob container of the state."
  type        = string
  default     = "tfstate"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9](-?[a-z0-9]){2,62}$", var.container_name))
    error_message = "container_name is not valid. Write 3 to 63 lower-case letters, digits and single hyphens."
  }
}

variable "sa_replication_type" {
  description = "How Azure replicates the storage account."
  type        = string
  default     = "LRS"
  nullable    = false

  validation {
    condition     = contains(["LRS", "ZRS", "GRS", "RAGRS", "GZRS", "RAGZRS"], upper(var.sa_replication_type))
    error_message = "sa_replication_type is not valid. Write LRS, ZRS, GRS, RAGRS, GZRS or RAGZRS."
  }
}

variable "soft_delete_retention_days" {
  description = "For how many days a deleted or overwritten state can be restored."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.soft_delete_retention_days >= 1 && var.soft_delete_retention_days <= 365 && floor(var.soft_delete_retention_days) == var.soft_delete_retention_days
    error_message = "soft_delete_retention_days is not valid. Write a whole number from 1 to 365."
  }
}

variable "allowed_public_ip_addresses" {
  description = "Public IPv4 addresses or CIDR ranges that may reach the storage account. Empty: every address may, with an Entra token that has the role; keys are off."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.allowed_public_ip_addresses : can(regex("^(\\d{1,3}\\.){3}\\d{1,3}(/([0-9]|[12][0-9]|30))?$", each))])
    error_message = "allowed_public_ip_addresses has an entry that is not valid. Write IPv4 addresses, or ranges of at most 30 bits; Azure takes no /31 and /32."
  }
}

variable "state_principal_ids" {
  description = "Object ids of the principals that may read and write the state, each with the role Storage Blob Data Contributor on the container only."
  type        = set(string)

  validation {
    condition     = length(var.state_principal_ids) > 0
    error_message = "state_principal_ids is empty, so that nobody could use the state. Write at least one object id."
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
