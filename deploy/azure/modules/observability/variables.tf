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

variable "log_analytics_workspace_name" {
  description = "The name of the Log Analytics workspace that the module makes."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][-A-Za-z0-9]{2,61}[A-Za-z0-9]$", var.log_analytics_workspace_name))
    error_message = "log_analytics_workspace_name is not valid. Write 4 to 63 letters, digits and hyphens, no hyphen at either end."
  }
}

variable "existing_log_analytics_workspace_id" {
  description = "A Log Analytics workspace that exists, in the same region: Azure takes no rule for a workspace elsewhere. Null: the module makes one."
  type        = string
  default     = null

  validation {
    condition     = var.existing_log_analytics_workspace_id == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.OperationalInsights/workspaces/[^/]+$", var.existing_log_analytics_workspace_id))
    error_message = "existing_log_analytics_workspace_id is not the resource id of a workspace. Write /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/<name>, or leave it out."
  }
}

variable "log_retention_days" {
  description = "For how many days the workspace keeps logs. 31 days are free of charge."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.log_retention_days >= 30 && var.log_retention_days <= 730
    error_message = "log_retention_days is not valid. Write 30 to 730."
  }
}

variable "log_daily_quota_gb" {
  description = "After how many GB a day the workspace takes no more. -1: no bound."
  type        = number
  default     = -1
  nullable    = false

  validation {
    condition     = var.log_daily_quota_gb == -1 || var.log_daily_quota_gb > 0
    error_message = "log_daily_quota_gb is not valid. Write a number above 0, or -1 for no bound."
  }
}

variable "log_local_authentication_enabled" {
  description = "Whether the workspace takes its shared keys. A Container Apps environment with the log destination `log-analytics` needs them; one with `azure-monitor` and a diagnostic setting does not."
  type        = bool
  default     = false
  nullable    = false
}

variable "application_insights_name" {
  description = "The name of Application Insights."
  type        = string

  validation {
    condition     = can(regex("^[-\\w.()]{1,255}$", var.application_insights_name))
    error_message = "application_insights_name is not valid. Write 1 to 255 letters, digits, hyphens, periods, underscores and parentheses."
  }
}

variable "app_insights_daily_cap_gb" {
  description = "After how many GB a day Application Insights takes no more."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.app_insights_daily_cap_gb > 0 && var.app_insights_daily_cap_gb <= 1000
    error_message = "app_insights_daily_cap_gb is not valid. Write a number above 0, at most 1000."
  }
}

variable "monitor_workspace_name" {
  description = "The name of the Azure Monitor workspace that the module makes."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][-A-Za-z0-9]{2,42}[A-Za-z0-9]$", var.monitor_workspace_name))
    error_message = "monitor_workspace_name is not valid. Write 4 to 44 letters, digits and hyphens, no hyphen at either end."
  }
}

variable "existing_monitor_workspace_id" {
  description = "An Azure Monitor workspace that exists, in the same region, where its alert rules have to be. Null: the module makes one."
  type        = string
  default     = null

  validation {
    condition     = var.existing_monitor_workspace_id == null || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Monitor/accounts/[^/]+$", var.existing_monitor_workspace_id))
    error_message = "existing_monitor_workspace_id is not the resource id of an Azure Monitor workspace. Write /subscriptions/…/providers/Microsoft.Monitor/accounts/<name>, or leave it out."
  }
}

variable "public_network_access_enabled" {
  description = "Whether the metrics of the Azure Monitor workspace can be queried from public networks. The dashboard in the portal needs it, or a private endpoint. Nothing else depends on it: the gateway writes through the data collection endpoint."
  type        = bool
  default     = true
  nullable    = false
}

variable "dashboard_name" {
  description = "The name of the dashboard in the portal. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.dashboard_name == null || can(regex("^[A-Za-z0-9][-A-Za-z0-9]{1,61}[A-Za-z0-9]$", var.dashboard_name))
    error_message = "dashboard_name is not valid. Write 3 to 63 letters, digits and hyphens, no hyphen at either end."
  }
}

variable "resource_group_id" {
  description = "The id of the resource group, which the dashboard needs."
  type        = string

  validation {
    condition     = can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.resource_group_id))
    error_message = "resource_group_id is not the id of a resource group. Write /subscriptions/<id>/resourceGroups/<name>."
  }
}

variable "dashboard_json" {
  description = "The dashboard, as Grafana exports one. Its data source is a variable of type Prometheus."
  type        = string
  default     = null

  validation {
    condition     = var.dashboard_json == null || can(jsondecode(var.dashboard_json).panels)
    error_message = "dashboard_json is not a dashboard. Write what Grafana exports as JSON."
  }
}
