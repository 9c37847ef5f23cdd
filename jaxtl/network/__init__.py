"""From images to features: extraction, the frozen trunk, fine-tuning."""
