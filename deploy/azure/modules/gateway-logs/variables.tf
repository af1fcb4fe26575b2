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

variable "log_analytics_workspace_id" {
  description = "The Log Analytics workspace of the table."
  type        = string

  validation {
    condition     = can(regex("(?i)/providers/Microsoft.OperationalInsights/workspaces/[^/]+$", var.log_analytics_workspace_id))
    error_message = "log_analytics_workspace_id is not the resource id of a workspace. Write /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/<name>."
  }
}

variable "dce_name" {
  description = "The name of the data collection endpoint."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][-A-Za-z0-9]{1,42}[A-Za-z0-9]$", var.dce_name))
    error_message = "dce_name is not valid. Write 3 to 44 letters, digits and hyphens, no hyphen at either end."
  }
}

variable "dcr_name" {
  description = "The name of the data collection rule."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][-\\w.]{2,63}$", var.dcr_name))
    error_message = "dcr_name is not valid. Write 3 to 64 letters, digits, hyphens, underscores and periods."
  }
}

variable "table_name" {
  description = "The custom table of the records."
  type        = string
  default     = "APISIXGatewayLogs_CL"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_]{0,59}_CL$", var.table_name))
    error_message = "table_name is not valid. Write letters, digits and underscores that end with _CL."
  }
}

variable "stream_name" {
  description = "The stream to which the gateway sends records; APIM_GATEWAY_LOGS_STREAM."
  type        = string
  default     = "Custom-APISIXGatewayLogs"
  nullable    = false

  validation {
    condition     = can(regex("^Custom-[A-Za-z0-9_]{1,80}$", var.stream_name))
    error_message = "stream_name is not valid. Write a name that begins with Custom-."
  }
}

variable "retention_days" {
  description = "For how many days the table keeps records. Null: as many as the workspace."
  type        = number
  default     = null

  validation {
    condition     = var.retention_days == null || try(var.retention_days >= 4 && var.retention_days <= 730, false)
    error_message = "retention_days is not valid. Write 4 to 730, or leave it out."
  }
}
