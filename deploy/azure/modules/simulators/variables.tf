variable "name_suffix" {
  description = "End of the names: ca-sim-ptu1-SUFFIX."
  type        = string
}

variable "resource_group_name" {
  description = "Resource group of the simulators."
  type        = string
}

variable "location" {
  description = "Region of the simulators' identity."
  type        = string
}

variable "container_app_environment_id" {
  description = "Environment of the gateway."
  type        = string
}

variable "default_domain" {
  description = "Default domain of the Container Apps environment."
  type        = string
}

variable "workload_profile_name" {
  description = "Workload profile of the environment. null: the environment is an existing one without profiles."
  type        = string
  default     = "Consumption"
}

variable "image" {
  description = "Image of microsoft/aoai-api-simulator 0.5, by digest or version."
  type        = string

  validation {
    condition     = can(regex("^[^\\s]+(:[^:/\\s]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "simulator_image has no version. Write a tag other than latest, or a digest."
  }
}

variable "registry_id" {
  description = "Resource ID of the registry that has the image. Empty: the image is public."
  type        = string
  default     = ""
  nullable    = false
}

variable "registry_login_server" {
  description = "Host name of that registry."
  type        = string
  default     = ""
  nullable    = false
}

variable "vault_identity_id" {
  description = "Resource ID of the identity that reads the vault."
  type        = string
}

variable "key_vault_id" {
  description = "Resource ID of the vault that gets the key."
  type        = string
}

variable "key_vault_uri" {
  description = "URI of that vault."
  type        = string
}

variable "secret_name" {
  description = "Name of the key in the vault."
  type        = string
  default     = "simulator-api-key"
  nullable    = false
}

variable "secret_version" {
  description = "Increase it to write a new key into the vault."
  type        = number
  default     = 1
  nullable    = false
}

variable "external_enabled" {
  description = "Let the simulators be reached from outside the environment, as the gateway is."
  type        = bool
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
