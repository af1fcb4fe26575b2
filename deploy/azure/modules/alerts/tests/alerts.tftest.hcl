mock_provider "azurerm" {
  mock_resource "azurerm_monitor_action_group" {
    defaults = {
      id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/actionGroups/ag-genai-dev-we"
    }
  }
}

variables {
  resource_group_name        = "rg"
  location                   = "westeurope"
  name_suffix                = "genai-dev-we"
  azure_monitor_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Monitor/accounts/amw"
  log_analytics_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log"
}

run "metric_rules_are_those_of_the_examples" {
  command = apply

  assert {
    condition = {
      for each in flatten(values(azurerm_monitor_alert_prometheus_rule_group.this)[*].rule) : each.alert => each.expression
      } == {
      for each in flatten(yamldecode(file("../../../../examples/observability/alerts.yml")).groups[*].rules) : each.alert => trimspace(each.expr)
    }
    error_message = "With the default thresholds every expression must be the one that is written there, and none be left out."
  }
  assert {
    condition = {
      for each in azurerm_monitor_alert_prometheus_rule_group.this["genai-gateway-service-level"].rule : each.alert => "${each.for} ${each.severity}"
    } == { GatewayErrorBudgetBurnsFast = "PT2M 1", GatewayErrorBudgetBurnsSlowly = "PT15M 2", GatewayFirstTokenSlow = "PT15M 2" }
    error_message = "Times are in ISO 8601, severities those of Azure."
  }
  assert {
    condition     = alltrue([for each in flatten(values(azurerm_monitor_alert_prometheus_rule_group.this)[*].rule) : one(each.action).action_group_id == azurerm_monitor_action_group.this[0].id && each.enabled])
    error_message = "Every rule notifies the action group."
  }
  assert {
    condition     = azurerm_monitor_alert_prometheus_rule_group.this["genai-gateway-service-level"].rule[0].annotations.summary == "{{ $value }} of the requests are served by no backend"
    error_message = "Azure knows no functions of Prometheus."
  }
  assert {
    condition     = azurerm_monitor_alert_prometheus_rule_group.this["genai-gateway-process"].cluster_name == null
    error_message = "Without a cluster the rules see all metrics."
  }
  assert {
    condition     = output.action_group_name == "ag-genai-dev-we" && length(output.alert_rule_ids) == length(azurerm_monitor_alert_prometheus_rule_group.this) + 4
    error_message = "Each rule is an output."
  }
}

run "thresholds_are_variables" {
  command = plan

  variables {
    alert_unserved_budget_percent            = 0.5
    alert_first_token_p95_threshold_ms       = 2500
    alert_failover_threshold_percent         = 30
    alert_authentication_failures_per_second = 7
    alert_5xx_threshold_percent              = 2
    alert_429_threshold_percent              = 50
    alert_latency_p95_threshold_ms           = 60000
    disabled_metric_alerts                   = ["GatewaySpansDropped"]
    cluster_name                             = "genai-dev"
  }

  assert {
    condition = alltrue([
      for each in azurerm_monitor_alert_prometheus_rule_group.this["genai-gateway-service-level"].rule :
      strcontains(each.expression, each.alert == "GatewayFirstTokenSlow" ? "> 2500" : "* 0.005") && !strcontains(each.expression, "* 0.01")
    ])
    error_message = "The budget and the time to the first token must reach the rules."
  }
  assert {
    condition     = { for each in azurerm_monitor_alert_prometheus_rule_group.this["genai-gateway-backends"].rule : each.alert => endswith(each.expression, "> 0.3") }["GatewayFailoverRatioHigh"]
    error_message = "The share of failovers must reach its rule."
  }
  assert {
    condition     = { for each in azurerm_monitor_alert_prometheus_rule_group.this["genai-gateway-limits"].rule : each.alert => endswith(each.expression, "> 7") }["GatewayAuthenticationFails"]
    error_message = "The rate of failed authentications must reach its rule."
  }
  assert {
    condition     = [for each in azurerm_monitor_alert_prometheus_rule_group.this["genai-gateway-process"].rule : each.alert if !each.enabled] == ["GatewaySpansDropped"]
    error_message = "Only the named alert is off."
  }
  assert {
    condition     = alltrue([for each in azurerm_monitor_alert_prometheus_rule_group.this : each.cluster_name == "genai-dev"])
    error_message = "The rules see one environment only."
  }
  assert {
    condition     = { for name, each in azurerm_monitor_scheduled_query_rules_alert_v2.this : name => each.criteria[0].threshold } == { "5xx" = 2, "429" = 50, "latency-p95" = 60000 }
    error_message = "The thresholds on records must reach their rules."
  }
}

run "log_alerts_ask_for_columns_that_exist" {
  command = plan

  variables {
    gateway_id = "genai-dev"
  }

  assert {
    condition = alltrue([
      for query in concat(values(azurerm_monitor_scheduled_query_rules_alert_v2.this)[*].criteria[0].query, [azurerm_monitor_scheduled_query_rules_alert_v2.no_traffic[0].criteria[0].query]) : alltrue([
        for name in regexall("\\b[A-Z][a-z]+[A-Z]\\w*\\b", replace(query, "APISIXGatewayLogs_CL", "")) :
        contains(jsondecode(file("../gateway-logs/columns.json"))[*].name, name)
      ])
    ])
    error_message = "A query names a column that the gateway does not send, so that it could never fire."
  }
  assert {
    condition = alltrue([
      for each in concat(values(azurerm_monitor_scheduled_query_rules_alert_v2.this), azurerm_monitor_scheduled_query_rules_alert_v2.no_traffic) :
      startswith(trimspace(each.criteria[0].query), "APISIXGatewayLogs_CL\n| where GatewayId == \"genai-dev\"")
    ])
    error_message = "The alerts see one environment only."
  }
  assert {
    condition     = !strcontains(azurerm_monitor_scheduled_query_rules_alert_v2.no_traffic[0].criteria[0].query, " by ") && azurerm_monitor_scheduled_query_rules_alert_v2.no_traffic[0].criteria[0].operator == "LessThan" && azurerm_monitor_scheduled_query_rules_alert_v2.no_traffic[0].window_duration == "PT1H"
    error_message = "A query by bins has no row without traffic, so that the alert could never fire."
  }
}

run "what_exists_can_be_brought_along" {
  command = plan

  variables {
    azure_monitor_workspace_id = null
    log_analytics_workspace_id = null
    alert_action_group_id      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/actionGroups/mine"
  }

  assert {
    condition     = length(azurerm_monitor_action_group.this) == 0 && output.action_group_name == "mine" && length(output.alert_rule_ids) == 0
    error_message = "Without workspaces there is nothing to watch, and with an action group none is made."
  }
}

run "receivers_get_the_common_schema" {
  command = plan

  variables {
    alert_no_traffic_window = null
    alert_email_receivers   = [{ name = "on-call", email = "on-call@example.com" }]
    alert_webhook_receivers = [{ name = "chat", uri = "https://example.com/hook" }]
  }

  assert {
    condition     = azurerm_monitor_action_group.this[0].email_receiver[0].use_common_alert_schema && azurerm_monitor_action_group.this[0].webhook_receiver[0].service_uri == "https://example.com/hook"
    error_message = "Receivers must be those of the variables."
  }
  assert {
    condition     = length(azurerm_monitor_scheduled_query_rules_alert_v2.no_traffic) == 0
    error_message = "Null turns off the alert on missing traffic."
  }
}

run "values_are_validated" {
  command = plan

  variables {
    resource_group_name                      = ""
    location                                 = ""
    name_suffix                              = "-"
    azure_monitor_workspace_id               = "amw"
    cluster_name                             = ""
    log_analytics_workspace_id               = "log"
    log_table_name                           = "Logs"
    gateway_id                               = "a\"b"
    alert_action_group_id                    = "ag"
    alert_email_receivers                    = [{ name = "me", email = "me" }]
    alert_webhook_receivers                  = [{ name = "me", uri = "http://example.com" }]
    disabled_metric_alerts                   = ["GatewaySleeps"]
    alert_severities                         = { critical = 5 }
    alert_unserved_budget_percent            = 7
    alert_first_token_p95_threshold_ms       = 0
    alert_failover_threshold_percent         = 0
    alert_authentication_failures_per_second = 0
    alert_minimum_requests                   = 0
    alert_5xx_threshold_percent              = 0
    alert_429_threshold_percent              = 101
    alert_latency_p95_threshold_ms           = 0
    alert_no_traffic_window                  = "PT5M"
    tags                                     = { for n in range(51) : "t${n}" => "" }
  }

  expect_failures = [
    var.resource_group_name, var.location, var.name_suffix, var.azure_monitor_workspace_id, var.cluster_name,
    var.log_analytics_workspace_id, var.log_table_name, var.gateway_id, var.alert_action_group_id, var.alert_email_receivers,
    var.alert_webhook_receivers, var.disabled_metric_alerts, var.alert_severities, var.alert_unserved_budget_percent,
    var.alert_first_token_p95_threshold_ms, var.alert_failover_threshold_percent, var.alert_authentication_failures_per_second,
    var.alert_minimum_requests, var.alert_5xx_threshold_percent, var.alert_429_threshold_percent,
    var.alert_latency_p95_threshold_ms, var.alert_no_traffic_window, var.tags,
  ]
}
