variable "subscription_id" {
  description = "The Azure subscription."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.subscription_id))
    error_message = "subscription_id is not a GUID. Write the id that `az account show --query id` prints."
  }
}

variable "tenant_id" {
  description = "The Entra tenant of the subscription."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.tenant_id))
    error_message = "tenant_id is not a GUID. Write the id that `az account show --query tenantId` prints."
  }
}

# The module names validates what names are made of.
variable "environment_code" {
  description = "The environment in names, for example dev, test or prod; any other is possible too."
  type        = string
}

variable "location" {
  description = "The Azure region, for example westeurope."
  type        = string
}

variable "workload_name" {
  description = "What the deployment is called in names."
  type        = string
  default     = "apisix"
  nullable    = false
}

variable "identifier" {
  description = "Distinguishes several deployments of one workload and environment in names. Empty: none."
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

variable "existing_resource_group_id" {
  description = "A resource group that exists, for the state. Null: the stack makes one."
  type        = string
  default     = null
}

variable "state_rg_name_override" {
  description = "The name of the resource group that the stack makes. Empty: rg-<names>-state."
  type        = string
  default     = ""
  nullable    = false
}

variable "storage_account_name_override" {
  description = "The name of the storage account. Empty: st<names><five characters>."
  type        = string
  default     = ""
  nullable    = false
}

variable "state_container_name" {
  description = "The blob container of the state."
  type        = string
  default     = "tfstate"
  nullable    = false
}

variable "sa_replication_type" {
  description = "How Azure replicates the storage account: LRS, ZRS, GRS, RAGRS, GZRS or RAGZRS."
  type        = string
  default     = "LRS"
  nullable    = false
}

variable "soft_delete_retention_days" {
  description = "For how many days a deleted or overwritten state can be restored."
  type        = number
  default     = 30
  nullable    = false
}

variable "allowed_public_ip_addresses" {
  description = "Public IPv4 addresses or ranges that may reach the state. Empty: every address may, with an Entra token that has the role."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "state_principal_ids" {
  description = "Object ids of others that run Terraform, such as the identity of a pipeline. Who applies this stack has access anyway."
  type        = set(string)
  default     = []
  nullable    = false
}
