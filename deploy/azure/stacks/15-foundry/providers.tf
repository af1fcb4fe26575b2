provider "azurerm" {
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
  # Registered once, where they are not yet.
  resource_providers_to_register = ["Microsoft.CognitiveServices", "Microsoft.Network"]

  features {}
}
