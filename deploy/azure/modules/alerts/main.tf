locals {
  has_metrics = var.enabled && var.azure_monitor_workspace_id != null
  has_logs    = var.enabled && var.log_analytics_workspace_id != null

  made_group_id   = one(azurerm_monitor_action_group.this[*].id)
  action_group_id = var.enabled && var.alert_action_group_id != "" ? var.alert_action_group_id : local.made_group_id

  # The rules themselves are those of every Prometheus; only their thresholds are replaced here.
  rule_groups = { for group in yamldecode(file("${path.module}/../../../../examples/observability/alerts.yml")).groups : group.name => group.rules }

  thresholds = {
    GatewayErrorBudgetBurnsFast   = { written = "* 0.01", wanted = "* ${var.alert_unserved_budget_percent / 100}" }
    GatewayErrorBudgetBurnsSlowly = { written = "* 0.01", wanted = "* ${var.alert_unserved_budget_percent / 100}" }
    GatewayFirstTokenSlow         = { written = "> 10000", wanted = "> ${var.alert_first_token_p95_threshold_ms}" }
    GatewayFailoverRatioHigh      = { written = "> 0.2", wanted = "> ${var.alert_failover_threshold_percent / 100}" }
    GatewayAuthenticationFails    = { written = "> 1", wanted = "> ${var.alert_authentication_failures_per_second}" }
  }

  # Where the text of a threshold is not in its rule, a variable would do nothing.
  lost_thresholds = [
    for rule in flatten(values(local.rule_groups)) : rule.alert
    if can(local.thresholds[rule.alert]) && !strcontains(rule.expr, try(local.thresholds[rule.alert].written, ""))
  ]
}

resource "azurerm_monitor_action_group" "this" {
  count = var.enabled && var.alert_action_group_id == "" ? 1 : 0

  name                = "ag-${var.name_suffix}"
  resource_group_name = var.resource_group_name
  short_name          = "gw-alerts"
  tags                = var.tags

  dynamic "email_receiver" {
    for_each = var.alert_email_receivers

    content {
      name                    = email_receiver.value.name
      email_address           = email_receiver.value.email
      use_common_alert_schema = true
    }
  }

  dynamic "webhook_receiver" {
    # Plans show how many there are, and no address.
    for_each = nonsensitive(range(length(var.alert_webhook_receivers)))

    content {
      name                    = nonsensitive(var.alert_webhook_receivers[webhook_receiver.value].name)
      service_uri             = var.alert_webhook_receivers[webhook_receiver.value].uri
      use_common_alert_schema = true
    }
  }
}

resource "azurerm_monitor_alert_prometheus_rule_group" "this" {
  for_each = { for name, rules in local.rule_groups : name => rules if local.has_metrics }

  name                = "${each.key}-${var.name_suffix}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
  description         = "Rules of examples/observability/alerts.yml."
  scopes              = [var.azure_monitor_workspace_id]
  cluster_name        = var.cluster_name
  interval            = "PT1M"
  rule_group_enabled  = true

  dynamic "rule" {
    for_each = each.value

    content {
      alert   = rule.value.alert
      enabled = !contains(var.disabled_metric_alerts, rule.value.alert)
      expression = trimspace(try(
        replace(rule.value.expr, local.thresholds[rule.value.alert].written, local.thresholds[rule.value.alert].wanted),
        rule.value.expr,
      ))
      # Prometheus writes 5m, Azure PT5M. Checkov reads no attribute of this name, and so not this file.
      for      = try("PT${upper(rule.value.for)}", null)
      severity = var.alert_severities[rule.value.labels.severity]
      labels   = rule.value.labels
      # Azure fills in values and labels, and knows no functions of Prometheus such as humanizePercentage.
      annotations = { for name, text in rule.value.annotations : name => replace(text, "/ *\\| *\\w+ *}}/", " }}") }

      action {
        action_group_id = local.action_group_id
      }

      alert_resolution {
        auto_resolved   = true
        time_to_resolve = "PT5M"
      }
    }
  }

  lifecycle {
    precondition {
      condition     = length(each.value) <= 20
      error_message = "The group ${each.key} has more than the 20 rules that Azure takes. Split it in examples/observability/alerts.yml."
    }
    precondition {
      condition     = length(local.lost_thresholds) == 0
      error_message = "The thresholds of ${join(", ", local.lost_thresholds)} are no longer written in examples/observability/alerts.yml as modules/alerts/main.tf expects."
    }
  }
}

locals {
  records = join("\n", compact([
    var.log_table_name,
    var.gateway_id == null ? "" : "| where GatewayId == \"${var.gateway_id == null ? "" : var.gateway_id}\"",
  ]))

  # One row for each five minutes with a column Value. Two bins of three have to be above the threshold.
  share_of = {
    for name, condition in { "5xx" = "ResponseCode >= 500", "429" = "ResponseCode == 429" } : name => <<-KQL
      ${local.records}
      | summarize Requests = count(), Matching = countif(${condition}) by bin(TimeGenerated, 5m)
      | where Requests >= ${var.alert_minimum_requests}
      | project TimeGenerated, Value = 100.0 * Matching / Requests
    KQL
  }

  log_alerts = {
    "5xx" = {
      severity    = 2
      description = "More than ${var.alert_5xx_threshold_percent} percent of the answers have a status of 500 or above."
      query       = local.share_of["5xx"]
      threshold   = var.alert_5xx_threshold_percent
    }
    "429" = {
      severity    = 2
      description = "More than ${var.alert_429_threshold_percent} percent of the answers have the status 429. BackendId is `pool` where a limit of the gateway refused."
      query       = local.share_of["429"]
      threshold   = var.alert_429_threshold_percent
    }
    "latency-p95" = {
      severity    = 3
      description = "One successful request in twenty takes longer than ${var.alert_latency_p95_threshold_ms} ms."
      query       = <<-KQL
        ${local.records}
        | where ResponseCode < 400
        | summarize Requests = count(), Value = percentile(TotalTime, 95) by bin(TimeGenerated, 5m)
        | where Requests >= ${var.alert_minimum_requests}
        | project TimeGenerated, Value
      KQL
      threshold   = var.alert_latency_p95_threshold_ms
    }
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "this" {
  for_each = { for name, alert in local.log_alerts : name => alert if local.has_logs }

  name                    = "alert-${each.key}-${var.name_suffix}"
  resource_group_name     = var.resource_group_name
  location                = var.location
  tags                    = var.tags
  description             = each.value.description
  scopes                  = [var.log_analytics_workspace_id]
  severity                = each.value.severity
  evaluation_frequency    = "PT5M"
  window_duration         = "PT5M"
  auto_mitigation_enabled = true

  criteria {
    query                   = trimspace(each.value.query)
    time_aggregation_method = "Maximum"
    metric_measure_column   = "Value"
    operator                = "GreaterThan"
    threshold               = each.value.threshold

    failing_periods {
      number_of_evaluation_periods             = 3
      minimum_failing_periods_to_trigger_alert = 2
    }
  }

  action {
    action_groups = [local.action_group_id]
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "no_traffic" {
  count = local.has_logs && var.alert_no_traffic_window != null ? 1 : 0

  name                    = "alert-no-traffic-${var.name_suffix}"
  resource_group_name     = var.resource_group_name
  location                = var.location
  tags                    = var.tags
  description             = "No request for ${coalesce(var.alert_no_traffic_window, "-")}: the gateway is unreachable, it sends no records, or nobody calls it."
  scopes                  = [var.log_analytics_workspace_id]
  severity                = 2
  evaluation_frequency    = "PT15M"
  window_duration         = var.alert_no_traffic_window
  auto_mitigation_enabled = true

  criteria {
    # Without `by` this is one row also where there are no records. With it there would be none, and nothing to compare.
    query                   = "${local.records}\n| summarize Requests = count()"
    time_aggregation_method = "Total"
    metric_measure_column   = "Requests"
    operator                = "LessThan"
    threshold               = 1

    failing_periods {
      number_of_evaluation_periods             = 1
      minimum_failing_periods_to_trigger_alert = 1
    }
  }

  action {
    action_groups = [local.action_group_id]
  }
}
