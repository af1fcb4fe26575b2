variable "name" {
  description = "Name of the environment."
  type        = string
}

variable "resource_group_name" {
  description = "Resource group of the environment."
  type        = string
}

variable "location" {
  description = "Region of the environment."
  type        = string
}

variable "existing_environment_id" {
  description = "Resource ID of an environment to use. Empty: one is made."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.existing_environment_id == "" || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.App/managedEnvironments/[^/]+$", var.existing_environment_id))
    error_message = "existing_environment_id is not the resource ID of a Container Apps environment. Write /subscriptions/…/providers/Microsoft.App/managedEnvironments/NAME, or nothing."
  }
}

variable "infrastructure_subnet_id" {
  description = "Subnet of the environment, delegated to Microsoft.App/environments. Empty: a network of Azure's own."
  type        = string
  default     = ""
  nullable    = false
}

variable "virtual_network_id" {
  description = "Virtual network of that subnet. Required for an internal environment."
  type        = string
  default     = ""
  nullable    = false
}

variable "internal" {
  description = "Only the virtual network reaches the environment."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.internal || (var.infrastructure_subnet_id != "" && var.virtual_network_id != "")
    error_message = "An internal environment needs infrastructure_subnet_id and virtual_network_id. Write both, or set internal = false."
  }
}

variable "zone_redundancy_enabled" {
  description = "Spread the environment over the region's zones. Azure allows this only in a virtual network of yours, and never later than at the start."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.zone_redundancy_enabled || var.infrastructure_subnet_id != ""
    error_message = "zone_redundancy_enabled needs infrastructure_subnet_id. Write the subnet's resource ID, or set zone_redundancy_enabled = false."
  }
}

variable "ingress_idle_timeout_minutes" {
  description = "After how many minutes without a byte the ingress ends a request. More than 4 needs the premium ingress: two nodes or more, which cost money all the time."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.ingress_idle_timeout_minutes >= 4 && var.ingress_idle_timeout_minutes <= 30 && floor(var.ingress_idle_timeout_minutes) == var.ingress_idle_timeout_minutes
    error_message = "ingress_idle_timeout_minutes is not valid. Write a whole number from 4 to 30. 4 is Azure's default and costs nothing."
  }
}

variable "ingress_workload_profile_type" {
  description = "Size of the nodes of the premium ingress."
  type        = string
  default     = "D4"
  nullable    = false

  validation {
    condition     = contains(["D4", "D8", "D16", "D32", "E4", "E8", "E16", "E32"], var.ingress_workload_profile_type)
    error_message = "ingress_workload_profile_type is unknown. Write D4, D8, D16, D32, E4, E8, E16 or E32."
  }
}

variable "ingress_maximum_nodes" {
  description = "Largest number of nodes of the premium ingress."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.ingress_maximum_nodes >= 2 && floor(var.ingress_maximum_nodes) == var.ingress_maximum_nodes
    error_message = "ingress_maximum_nodes is not valid. Write a whole number, 2 or more."
  }
}

variable "log_analytics_workspace_id" {
  description = "Log Analytics workspace for the logs of the containers. Empty: the logs are streamed only."
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
