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

variable "observability_rg_name_override" {
  description = "The name of the resource group that the stack makes. Empty: rg-<names>-obs."
  type        = string
  default     = ""
  nullable    = false
}

variable "existing_log_analytics_workspace_id" {
  description = "A Log Analytics workspace that exists, in the same region: Azure takes no rule for a workspace elsewhere. Null: the stack makes one."
  type        = string
  default     = null
}

variable "log_analytics_workspace_name_override" {
  description = "The name of the Log Analytics workspace that the stack makes. Empty: log-<names>."
  type        = string
  default     = ""
  nullable    = false
}

variable "log_retention_days" {
  description = "For how many days logs are kept, 30 to 730."
  type        = number
  default     = 30
  nullable    = false
}

variable "log_daily_quota_gb" {
  description = "After how many GB a day the workspace takes no more. -1: no bound."
  type        = number
  default     = -1
  nullable    = false
}

variable "log_local_authentication_enabled" {
  description = "Whether the workspace takes its shared keys. An environment of Container Apps needs them only with the log destination log-analytics."
  type        = bool
  default     = false
  nullable    = false
}

variable "app_insights_name_override" {
  description = "The name of Application Insights. Empty: appi-<names>."
  type        = string
  default     = ""
  nullable    = false
}

variable "app_insights_daily_cap_gb" {
  description = "After how many GB a day Application Insights takes no more."
  type        = number
  default     = 10
  nullable    = false
}

variable "existing_azure_monitor_workspace_id" {
  description = "An Azure Monitor workspace that exists, in the same region, where its alert rules have to be. Null: the stack makes one."
  type        = string
  default     = null
}

variable "azure_monitor_workspace_name_override" {
  description = "The name of the Azure Monitor workspace that the stack makes. Empty: amw-<names>."
  type        = string
  default     = ""
  nullable    = false
}

variable "public_network_access_enabled" {
  description = "Whether metrics can be queried from public networks. With false the dashboard needs a private endpoint of the Azure Monitor workspace."
  type        = bool
  default     = true
  nullable    = false
}

variable "enable_dashboard" {
  description = "Whether the dashboard of examples/observability is put into the portal, under Azure Monitor, Dashboards with Grafana."
  type        = bool
  default     = false
  nullable    = false
}

variable "dashboard_name_override" {
  description = "The name of the dashboard's resource. Empty: dash-<names>."
  type        = string
  default     = ""
  nullable    = false
}

variable "enable_gateway_log_ingestion" {
  description = "Whether there is a table for the gateway's records of requests, with an endpoint and a rule."
  type        = bool
  default     = true
  nullable    = false
}

variable "gateway_logs_dce_name_override" {
  description = "The name of the records' data collection endpoint. Empty: dce-<names>."
  type        = string
  default     = ""
  nullable    = false
}

variable "gateway_logs_dcr_name_override" {
  description = "The name of the records' data collection rule. Empty: dcr-<names>."
  type        = string
  default     = ""
  nullable    = false
}
