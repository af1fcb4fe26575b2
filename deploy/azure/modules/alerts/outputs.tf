output "action_group_id" {
  description = "The action group that all alerts notify. Null without alerts."
  value       = local.action_group_id
}

output "action_group_name" {
  description = "The name of that action group. Null without alerts."
  value       = try(split("/", local.action_group_id)[8], null)
}

output "alert_rule_ids" {
  description = "The rules and rule groups by name."
  value = merge(
    { for name, each in azurerm_monitor_alert_prometheus_rule_group.this : name => each.id },
    { for name, each in azurerm_monitor_scheduled_query_rules_alert_v2.this : name => each.id },
    { for each in azurerm_monitor_scheduled_query_rules_alert_v2.no_traffic : "no-traffic" => each.id },
  )
}
