"""What HTML reports are made with: numbers as text, images, templates."""
