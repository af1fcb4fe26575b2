provider "azurerm" {
  subscription_id = var.subscription_id
  tenant_id       = var.tenant_id
  # Registered once, where they are not yet.
  resource_providers_to_register = ["Microsoft.ContainerRegistry", "Microsoft.KeyVault", "Microsoft.ManagedIdentity"]

  features {
    key_vault {
      # Removing the stack leaves the vault restorable, and making it again restores it.
      purge_soft_delete_on_destroy    = false
      recover_soft_deleted_key_vaults = true
    }
  }
}
