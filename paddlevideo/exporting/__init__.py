"""Write a trained model as a folder of programs that needs no other files."""
