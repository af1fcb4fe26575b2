provider "azurerm" {
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
  # Registered once, where they are not yet.
  resource_providers_to_register = ["Microsoft.Dashboard", "Microsoft.Insights", "Microsoft.Monitor", "Microsoft.OperationalInsights"]

  features {
    application_insights {
      # Azure's own alert rule would be left over when the stack is removed.
      disable_generated_rule = true
    }
  }
}

provider "azapi" {
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
}
