variable "kind" {
  description = "managed: Azure Managed Redis. container: a Container App without persistence, for test environments."
  type        = string

  validation {
    condition     = contains(["managed", "container"], var.kind)
    error_message = "kind is unknown. Write managed or container."
  }
}

variable "name" {
  description = "Name of the Redis."
  type        = string
}

variable "resource_group_name" {
  description = "Resource group of the Redis."
  type        = string
}

variable "resource_group_id" {
  description = "Resource ID of that group."
  type        = string
}

variable "location" {
  description = "Region of the Redis."
  type        = string
}

variable "sku_name" {
  description = "Size of Azure Managed Redis. The smallest sizes hold many more entries than a gateway writes."
  type        = string
  default     = "Balanced_B0"
  nullable    = false

  validation {
    condition = can(regex("^(Balanced_B(0|1|3|5|10|20)|MemoryOptimized_M(10|20)|ComputeOptimized_X(3|5|10|20))$", var.sku_name))
    # Larger sizes are always clusters.
    error_message = "sku_name is not a size that the gateway can use. Write Balanced_B0, B1, B3, B5, B10 or B20, MemoryOptimized_M10 or M20, or ComputeOptimized_X3, X5, X10 or X20."
  }
}

variable "high_availability_enabled" {
  description = "Run a second node. It doubles the price."
  type        = bool
  default     = true
  nullable    = false
}

variable "workload_profile_name" {
  description = "Workload profile of the environment. null: the environment is an existing one without profiles."
  type        = string
  default     = "Consumption"
}

variable "image" {
  description = "Image of the container, by digest or version."
  type        = string
  default     = "docker.io/library/redis:8.6.0-alpine3.23"
  nullable    = false

  validation {
    condition     = can(regex("^[^\\s]+(:[^:/\\s]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image has no version. Write a tag other than latest, or a digest."
  }
}

variable "container_app_environment_id" {
  description = "Environment of the container."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.kind != "container" || var.container_app_environment_id != ""
    error_message = "kind = \"container\" needs container_app_environment_id. Write the resource ID of the environment."
  }
}

variable "vault_identity_id" {
  description = "User-assigned identity that reads the vault for the container."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.kind != "container" || var.vault_identity_id != ""
    error_message = "kind = \"container\" needs vault_identity_id. Write the output aca_managed_identity_id of the stack 10-platform."
  }
}

variable "key_vault_id" {
  description = "Vault that the password is written to."
  type        = string
}

variable "key_vault_uri" {
  description = "URI of that vault."
  type        = string
}

variable "secret_name" {
  description = "Name of the password in the vault."
  type        = string
  default     = "responses-affinity-redis-password"
  nullable    = false
}

variable "secret_version" {
  description = "Increase it to write the password again: a new one for the container, the present primary key of Azure Managed Redis."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.secret_version >= 1 && floor(var.secret_version) == var.secret_version
    error_message = "secret_version is not valid. Write a whole number, 1 or more."
  }
}

variable "network_isolation" {
  description = "Reach Azure Managed Redis through a private endpoint only."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.network_isolation || var.kind != "managed" || (var.private_endpoint_subnet_id != "" && var.private_dns_zone_id != "")
    error_message = "network_isolation needs private_endpoint_subnet_id and private_dns_zone_id. Write both."
  }
}

variable "private_endpoint_subnet_id" {
  description = "Subnet of the private endpoint."
  type        = string
  default     = ""
  nullable    = false
}

variable "private_dns_zone_id" {
  description = "Private DNS zone privatelink.redis.azure.net."
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
