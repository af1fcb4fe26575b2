variable "name" {
  description = "Name of the secret in the vault."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-zA-Z-]{1,127}$", var.name))
    error_message = "name is not a name of a Key Vault secret. Write 1 to 127 letters, digits and hyphens."
  }
}

variable "key_vault_id" {
  description = "Resource ID of the vault."
  type        = string

  validation {
    condition     = can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.KeyVault/vaults/[^/]+$", var.key_vault_id))
    error_message = "key_vault_id is not the resource ID of a Key Vault. Write the output key_vault_id of the stack 10-platform."
  }
}

variable "resource_type" {
  description = "Type and API version of the resource that has the credential, for example Microsoft.Insights/components@2020-02-02."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z.]+(/[A-Za-z]+)+@[0-9-]+$", var.resource_type))
    error_message = "resource_type is not a type with an API version. Write for example Microsoft.Insights/components@2020-02-02."
  }
}

variable "resource_id" {
  description = "Resource ID of the resource that has the credential."
  type        = string

  validation {
    condition     = startswith(var.resource_id, "/subscriptions/")
    error_message = "resource_id is not a resource ID. Write an ID that begins with /subscriptions/."
  }
}

variable "action" {
  description = "Action that returns the credential, for example listKeys. Empty: the credential is a property of the resource itself."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z]*$", var.action))
    error_message = "action is not the name of an action. Write for example listKeys, or nothing."
  }
}

variable "value_path" {
  description = "JMESPath of the credential in the answer, for example primaryKey."
  type        = string

  validation {
    condition     = var.value_path != ""
    error_message = "value_path is empty. Write the path of the credential in the answer, for example primaryKey."
  }
}

variable "value_version" {
  description = "Increase it to write the credential again, for example after the key was regenerated."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.value_version >= 1 && floor(var.value_version) == var.value_version
    error_message = "value_version is not valid. Write a whole number, 1 or more."
  }
}

variable "tags" {
  description = "Tags of the secret."
  type        = map(string)
  default     = {}
  nullable    = false
}
