variable "enabled" {
  description = "Whether anything is made. The other variables are validated in any case, before an alert depends on them."
  type        = bool
  default     = true
  nullable    = false
}

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

variable "name_suffix" {
  description = "What follows the abbreviation of a resource type in names, for example genai-dev-we."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][-A-Za-z0-9]{0,79}$", var.name_suffix))
    error_message = "name_suffix is not valid. Write at most 80 letters, digits and hyphens."
  }
}

variable "azure_monitor_workspace_id" {
  description = "The Azure Monitor workspace of the gateway's metrics. Null: no alerts on metrics."
  type        = string
  default     = null

  validation {
    condition     = var.azure_monitor_workspace_id == null || can(regex("(?i)/providers/Microsoft.Monitor/accounts/[^/]+$", var.azure_monitor_workspace_id))
    error_message = "azure_monitor_workspace_id is not the resource id of an Azure Monitor workspace. Write /subscriptions/…/providers/Microsoft.Monitor/accounts/<name>, or leave it out."
  }
}

variable "cluster_name" {
  description = "The label `cluster` of the gateway's metrics, which is the setting CLUSTER_NAME. The rules see no other metrics then: for workspaces that several environments share. Null: all metrics of the workspace."
  type        = string
  default     = null

  validation {
    condition     = var.cluster_name == null || try(length(var.cluster_name) > 0, false)
    error_message = "cluster_name is empty. Write the value of CLUSTER_NAME, or leave it out."
  }
}

variable "log_analytics_workspace_id" {
  description = "The Log Analytics workspace of the gateway's records. Null: no alerts on records."
  type        = string
  default     = null

  validation {
    condition     = var.log_analytics_workspace_id == null || can(regex("(?i)/providers/Microsoft.OperationalInsights/workspaces/[^/]+$", var.log_analytics_workspace_id))
    error_message = "log_analytics_workspace_id is not the resource id of a workspace. Write /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/<name>, or leave it out."
  }
}

variable "log_table_name" {
  description = "The table of the gateway's records."
  type        = string
  default     = "APISIXGatewayLogs_CL"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z]\\w*_CL$", var.log_table_name))
    error_message = "log_table_name is not the name of a custom table. Write a name that ends with _CL."
  }
}

variable "gateway_id" {
  description = "The column GatewayId of the gateway's records, which is the setting APIM_GATEWAY_ID. The alerts see no other records then: for workspaces that several environments share. Null: all records of the table."
  type        = string
  default     = null

  validation {
    condition     = var.gateway_id == null || can(regex("^[^\"\\\\]+$", var.gateway_id))
    error_message = "gateway_id is not valid. Write the value of APIM_GATEWAY_ID, without quotes and backslashes, or leave it out."
  }
}

variable "alert_action_group_id" {
  description = "An action group that exists, which all alerts notify. Empty: the module makes one from the receivers."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.alert_action_group_id == "" || can(regex("(?i)/providers/Microsoft.Insights/actionGroups/[^/]+$", var.alert_action_group_id))
    error_message = "alert_action_group_id is not the resource id of an action group. Write /subscriptions/…/providers/Microsoft.Insights/actionGroups/<name>, or leave it empty."
  }
}

variable "alert_email_receivers" {
  description = "Who gets mails."
  type = list(object({
    name  = string
    email = string
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for each in var.alert_email_receivers : can(regex("^[^@\\s]+@[^@\\s]+$", each.email)) && length(each.name) > 0])
    error_message = "alert_email_receivers has an entry that is not complete. Write a name and an address for each."
  }
}

variable "alert_webhook_receivers" {
  description = "Addresses that are called in Azure's common alert schema. They are stored in Terraform's state: for one with a token in it make an action group of your own, and name it in alert_action_group_id."
  type = list(object({
    name = string
    uri  = string
  }))
  default   = []
  nullable  = false
  sensitive = true

  validation {
    condition     = alltrue([for each in var.alert_webhook_receivers : startswith(each.uri, "https://") && length(each.name) > 0])
    error_message = "alert_webhook_receivers has an entry that is not complete. Write a name and an https:// address for each."
  }
}

variable "disabled_metric_alerts" {
  description = "Names of metric alerts of examples/observability/alerts.yml that are not evaluated."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.disabled_metric_alerts, flatten([for group in yamldecode(file("${path.module}/../../../../examples/observability/alerts.yml")).groups : group.rules[*].alert]))) == 0
    error_message = "disabled_metric_alerts names an alert that does not exist. Write names of examples/observability/alerts.yml."
  }
}

variable "alert_severities" {
  description = "Azure's severity, 0 to 4, for each severity of examples/observability/alerts.yml."
  type        = map(number)
  default     = { critical = 1, warning = 2 }
  nullable    = false

  validation {
    condition     = alltrue([for each in ["critical", "warning"] : contains(range(5), lookup(var.alert_severities, each, -1))])
    error_message = "alert_severities is not complete. Write a number from 0 to 4 for critical and for warning."
  }
}

variable "alert_unserved_budget_percent" {
  description = "The share of requests that may go unserved, in percent; the error budget of GatewayErrorBudgetBurnsFast and GatewayErrorBudgetBurnsSlowly."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.alert_unserved_budget_percent > 0 && var.alert_unserved_budget_percent < 7
    error_message = "alert_unserved_budget_percent is not valid. Write a number above 0 and below 7: 14.4 times as much has to be below 100 percent."
  }
}

variable "alert_first_token_p95_threshold_ms" {
  description = "Above which time to the first token, of one stream in twenty, GatewayFirstTokenSlow fires."
  type        = number
  default     = 10000
  nullable    = false

  validation {
    condition     = var.alert_first_token_p95_threshold_ms > 0
    error_message = "alert_first_token_p95_threshold_ms is not valid. Write milliseconds above 0."
  }
}

variable "alert_failover_threshold_percent" {
  description = "Above which share of answers after a failover, in percent, GatewayFailoverRatioHigh fires."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.alert_failover_threshold_percent > 0 && var.alert_failover_threshold_percent < 100
    error_message = "alert_failover_threshold_percent is not valid. Write a number between 0 and 100."
  }
}

variable "alert_authentication_failures_per_second" {
  description = "Above how many requests a second with a credential that is not valid GatewayAuthenticationFails fires."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.alert_authentication_failures_per_second > 0
    error_message = "alert_authentication_failures_per_second is not valid. Write a number above 0."
  }
}

variable "alert_minimum_requests" {
  description = "With fewer requests in five minutes the alerts on shares and on latency of records stay silent."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.alert_minimum_requests >= 1
    error_message = "alert_minimum_requests is not valid. Write 1 or more."
  }
}

variable "alert_5xx_threshold_percent" {
  description = "Above which share of answers with 5xx, in percent, an alert fires."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.alert_5xx_threshold_percent > 0 && var.alert_5xx_threshold_percent <= 100
    error_message = "alert_5xx_threshold_percent is not valid. Write a number above 0, at most 100."
  }
}

variable "alert_429_threshold_percent" {
  description = "Above which share of answers with 429, in percent, an alert fires."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.alert_429_threshold_percent > 0 && var.alert_429_threshold_percent <= 100
    error_message = "alert_429_threshold_percent is not valid. Write a number above 0, at most 100."
  }
}

variable "alert_latency_p95_threshold_ms" {
  description = "Above which duration of one successful request in twenty, in milliseconds, an alert fires. Streams count with their last byte."
  type        = number
  default     = 5000
  nullable    = false

  validation {
    condition     = var.alert_latency_p95_threshold_ms > 0
    error_message = "alert_latency_p95_threshold_ms is not valid. Write milliseconds above 0."
  }
}

variable "alert_no_traffic_window" {
  description = "After how long without a request an alert fires, as PT1H. Null: never, for gateways that are idle at times."
  type        = string
  default     = "PT1H"

  validation {
    condition     = var.alert_no_traffic_window == null || try(contains(["PT15M", "PT30M", "PT45M", "PT1H", "PT2H", "PT3H", "PT4H", "PT5H", "PT6H", "P1D", "P2D"], var.alert_no_traffic_window), false)
    error_message = "alert_no_traffic_window is not valid. Write PT15M, PT30M, PT45M, PT1H to PT6H, P1D or P2D, or leave it null."
  }
}
