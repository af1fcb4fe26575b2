# What azd provisions itself: nothing. The hook of azure.yaml has deployed everything by the stacks before, and azd takes
# the address of the gateway from here.
terraform {
  required_version = ">= 1.11, < 2"
}

variable "gateway_url" {
  description = "The address of the gateway, from the hook."
  type        = string
  default     = ""
}

output "GATEWAY_URL" {
  description = "The address of the gateway."
  value       = var.gateway_url
}
