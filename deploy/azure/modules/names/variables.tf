variable "subscription_id" {
  description = "The subscription. It makes names that must be unique in all of Azure differ between subscriptions."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.subscription_id))
    error_message = "subscription_id is not a GUID. Write the id that `az account show --query id` prints."
  }
}

variable "workload_name" {
  description = "What the deployment is called in names, for example genai."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.workload_name))
    error_message = "workload_name is not valid. Write 2 to 16 characters: lower-case letters, digits and hyphens, a letter first."
  }
}

variable "environment_code" {
  description = "The environment in names, for example dev or prod."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,7}$", var.environment_code))
    error_message = "environment_code is not valid. Write 2 to 8 lower-case letters and digits, a letter first, for example dev."
  }
}

variable "identifier" {
  description = "Distinguishes several deployments of one workload and environment. Empty: none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]{0,8}$", var.identifier))
    error_message = "identifier is not valid. Write at most 8 lower-case letters and digits, or nothing."
  }
}

variable "location" {
  description = "The Azure region, as `westeurope` or `West Europe`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9 ]+$", var.location))
    error_message = "location is not valid. Write an Azure region, for example westeurope."
  }
}
