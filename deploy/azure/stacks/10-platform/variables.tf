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
  description = "A resource group that exists. Null: the stack makes one."
  type        = string
  default     = null

  validation {
    condition     = var.existing_resource_group_id == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.existing_resource_group_id))
    error_message = "existing_resource_group_id is not the id of a resource group. Write /subscriptions/<id>/resourceGroups/<name>, or leave it out."
  }
}

variable "platform_rg_name_override" {
  description = "The name of the resource group that the stack makes. Empty: rg-<names>-platform."
  type        = string
  default     = ""
  nullable    = false
}

variable "log_analytics_workspace_id" {
  description = "Where access to the registry and the vault is logged; the output of 05-observability. Empty: nowhere."
  type        = string
  default     = ""
  nullable    = false
}

variable "existing_acr_id" {
  description = "A container registry that exists. Null: the stack makes one."
  type        = string
  default     = null
}

variable "acr_name_override" {
  description = "The name of the registry that the stack makes. Empty: acr<names><five characters>."
  type        = string
  default     = ""
  nullable    = false
}

variable "acr_sku" {
  description = "The registry's tier: Basic, Standard or Premium. A private endpoint needs Premium. The accelerator's default is Premium."
  type        = string
  default     = "Basic"
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations # accepted, so that the accelerator's settings work, and only validated
variable "acr_admin_enabled" {
  description = "Accepted for the accelerator's settings, and always false: images are pushed and pulled by identities."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = var.acr_admin_enabled == false
    error_message = "The registry has no admin user. Remove acr_admin_enabled, and give who pushes images the role AcrPush through acr_push_principal_ids."
  }
}

variable "acr_public_network_access_enabled" {
  description = "Whether the registry can be reached from public networks. False needs Premium and a private endpoint."
  type        = bool
  default     = true
  nullable    = false
}

variable "acr_push_principal_ids" {
  description = "Object ids of others that push images, such as the identity of a pipeline. The deployment principal can anyway."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "existing_key_vault_id" {
  description = "A Key Vault that exists, with Azure RBAC. Null: the stack makes one."
  type        = string
  default     = null
}

variable "key_vault_name_override" {
  description = "The name of the vault that the stack makes. Empty: kv-<names>-<five characters>."
  type        = string
  default     = ""
  nullable    = false
}

variable "key_vault_identity_name_override" {
  description = "The name of the identity that reads the vault's secrets. Empty: id-<names>-secrets."
  type        = string
  default     = ""
  nullable    = false
}

variable "key_vault_purge_protection_enabled" {
  description = "Whether what is deleted in the vault stays restorable against everyone. It cannot be turned off again, and the vault's name is taken for the whole retention."
  type        = bool
  default     = true
  nullable    = false
}

variable "key_vault_soft_delete_retention_days" {
  description = "For how many days what was deleted in the vault can be restored, 7 to 90. It cannot be changed later."
  type        = number
  default     = 90
  nullable    = false
}

variable "key_vault_public_network_access_enabled" {
  description = "Whether the vault can be reached from public networks. False needs a private endpoint, also for who applies 20-workload."
  type        = bool
  default     = true
  nullable    = false
}

# tflint-ignore: terraform_unused_declarations # it only says what key_vault_allowed_ip_ranges does
variable "enable_key_vault_public_ip_allowlist" {
  description = "Whether the vault takes only the addresses of key_vault_allowed_ip_ranges. The accelerator looked up the address of the caller; here you write it."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = var.enable_key_vault_public_ip_allowlist == (length(var.key_vault_allowed_ip_ranges) > 0)
    error_message = "enable_key_vault_public_ip_allowlist and key_vault_allowed_ip_ranges belong together. Write true and at least one address, or false and none."
  }
}

variable "key_vault_allowed_ip_ranges" {
  description = "Public IPv4 addresses or ranges that may reach the vault. Container Apps then need key_vault_allowed_subnet_ids or a private endpoint."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "key_vault_allowed_subnet_ids" {
  description = "Subnets with the service endpoint Microsoft.KeyVault that may reach the vault."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "deployment_principal_id" {
  description = "The object id of the principal that puts secrets into the vault, pushes images, and applies 20-workload. Null: who applies this stack."
  type        = string
  default     = null

  validation {
    condition     = var.deployment_principal_id == null || can(regex("^[0-9a-fA-F-]{36}$", var.deployment_principal_id))
    error_message = "deployment_principal_id is not an object id. Write a GUID, or leave it null."
  }
}

variable "private_endpoint_subnet_id" {
  description = "A subnet for private endpoints of the vault, and of a Premium registry. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.private_endpoint_subnet_id == null || can(regex("(?i)/subnets/[^/]+$", var.private_endpoint_subnet_id))
    error_message = "private_endpoint_subnet_id is not the resource id of a subnet. Write /subscriptions/…/subnets/<name>, or leave it null."
  }
}

variable "key_vault_private_dns_zone_id" {
  description = "The private DNS zone privatelink.vaultcore.azure.net. Null: no private endpoint of the vault."
  type        = string
  default     = null

  validation {
    condition     = var.key_vault_private_dns_zone_id == null || var.private_endpoint_subnet_id != null
    error_message = "key_vault_private_dns_zone_id needs private_endpoint_subnet_id, the subnet of the endpoint."
  }
}

variable "acr_private_dns_zone_id" {
  description = "The private DNS zone privatelink.azurecr.io. Null: no private endpoint of the registry."
  type        = string
  default     = null

  validation {
    condition     = var.acr_private_dns_zone_id == null || var.private_endpoint_subnet_id != null
    error_message = "acr_private_dns_zone_id needs private_endpoint_subnet_id, the subnet of the endpoint."
  }
}
