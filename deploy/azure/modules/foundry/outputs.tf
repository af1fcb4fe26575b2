locals {
  # Keys sort as text, so an index gets leading zeros here.
  in_order = [for key in sort([for name, instance in var.instances : format("%04d %s", instance.index, name)]) : substr(key, 5, -1)]
}

output "backends" {
  description = "The accounts in the order of their indexes, with all that the gateway needs."
  value = [
    for name in local.in_order : {
      index       = var.instances[name].index
      name        = name
      endpoint    = "https://${var.instances[name].account_name}.${var.endpoint_suffix}"
      host        = "${var.instances[name].account_name}.${var.endpoint_suffix}"
      location    = var.instances[name].location
      priority    = var.instances[name].priority
      weight      = var.instances[name].weight
      deployments = var.instances[name].deployments[*].name
      resource_id = azurerm_cognitive_account.this[name].id
    }
  ]
}
